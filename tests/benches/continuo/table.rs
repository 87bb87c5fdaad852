//! Tables on standard output, columns aligned.

/// What stands where nothing was measured.
pub const NOTHING: &str = "–";

/// Prints a titled table. The first column is left-aligned, the others right-aligned.
pub fn print(title: &str, notes: &[&str], header: &[&str], rows: &[Vec<String>]) {
    println!("\n## {title}\n");
    notes.iter().for_each(|note| println!("{note}"));
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).chain([header[column].chars().count()]).max().unwrap_or(0))
        .collect();
    println!("\n{}", line(header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>().as_slice(), &widths));
    let rule = |(column, width): (usize, &usize)| "-".repeat(width + 1) + if column == 0 { "-" } else { ":" };
    println!("|{}|", widths.iter().enumerate().map(rule).collect::<Vec<_>>().join("|"));
    rows.iter().for_each(|row| println!("{}", line(row, &widths)));
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
        .collect();
    format!("| {} |", cells.join(" | "))
}

/// Microseconds.
pub fn us(nanoseconds: f64) -> String {
    format!("{} us", three_digits(nanoseconds / 1e3))
}

/// Milliseconds.
pub fn ms(nanoseconds: f64) -> String {
    format!("{} ms", three_digits(nanoseconds / 1e6))
}

/// One quantity relative to another.
pub fn ratio(ratio: f64) -> String {
    format!("{} ×", three_digits(ratio))
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    format!("{} %", three_digits(share * 100.0))
}

/// Mebibytes.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", three_digits(bytes as f64 / f64::from(1 << 20)))
}

/// A cell that may have nothing to show.
pub fn maybe(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), show)
}

/// A number with three significant digits.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        small if small < 0.1 => 4,
        small if small < 1.0 => 3,
        small if small < 9.995 => 2,
        medium if medium < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}
