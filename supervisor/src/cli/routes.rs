//! `--route`: who listens to whom, from a command line.

use super::CommandError;
use crate::control::protocol::RuntimeName;
use crate::policy::routes::{DEVICE_INPUT, Route};
use crate::session::ProgramText;

/// Reads `FROM:TO` or `FROM:TO:only`.
pub fn parse(text: &str) -> Result<Route, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, is_only) = match parts.as_slice() {
        [from, to] => (from, to, false),
        [from, to, "only"] => (from, to, true),
        _ => return Err("it must look like FROM:TO, or FROM:TO:only for what is heard only there".to_owned()),
    };
    for name in [from, to] {
        RuntimeName::new(*name).map_err(|error| error.to_string())?;
    }
    Ok(Route { from: (*from).to_owned(), to: (*to).to_owned(), is_only })
}

/// Whether a route is none of those before it.
pub fn check_new(route: &Route, before: &[Route]) -> Result<(), String> {
    match before.iter().find(|other| (&other.from, &other.to) == (&route.from, &route.to)) {
        Some(_) => Err(format!("there is a route from `{}` to `{}` already; one says whether it is the `only` way", route.from, route.to)),
        None => Ok(()),
    }
}

/// Whether all ends of the routes are programs of the command, and each route is there once.
pub fn check(routes: &[Route], programs: &[ProgramText]) -> Result<(), CommandError> {
    let is_known = |name: &str| programs.iter().any(|program| program.name == name);
    let names = || programs.iter().map(|program| program.name.as_str()).collect::<Vec<_>>().join(", ");
    for (index, route) in routes.iter().enumerate() {
        check_new(route, &routes[..index]).map_err(|why| CommandError::Input(format!("--route: {why}")))?;
        if route.from != DEVICE_INPUT && !is_known(&route.from) {
            return Err(CommandError::Input(format!(
                "--route: there is no program `{}`; there is: {}, {DEVICE_INPUT}",
                route.from,
                names()
            )));
        }
        if !is_known(&route.to) {
            return Err(CommandError::Input(format!("--route: there is no program `{}`; there is: {}", route.to, names())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_names_its_two_ends_and_whether_it_is_the_only_way() {
        let route = |from: &str, to: &str, is_only| Ok::<_, String>(Route { from: from.to_owned(), to: to.to_owned(), is_only });
        assert_eq!(parse("drums:reverb"), route("drums", "reverb", false));
        assert_eq!(parse("drums:reverb:only"), route("drums", "reverb", true));
        assert_eq!(parse("@input:reverb"), route("@input", "reverb", false));
        let twice = [route("a", "b", false).unwrap(), route("a", "b", true).unwrap()];
        assert!(check_new(&twice[1], &twice[..1]).is_err_and(|why| why.contains("already")));
        assert!(check_new(&route("b", "a", false).unwrap(), &twice[..1]).is_ok());
        for wrong in ["drums", "drums:", ":reverb", "a:b:c", "a:b:only:c", "a/b:c", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
