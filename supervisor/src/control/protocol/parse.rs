//! From a line to a request: every check a line goes through before anybody acts on it.
//!
//! Two passes over the text and no tree of values in between: the first finds id, method and the kind of the parameters,
//! the second reads the parameters straight into the verb's type. So a line of a million brackets costs nothing.

use std::fmt;

use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::verbs::ReadParams;
use super::{ErrorCode, ErrorReply, METHODS, Params, Request, RequestId, Verb};
use crate::control::limits::{MAX_JSON_DEPTH, MAX_REQUEST_ID_BYTES};

/// A line that is no request: what to answer, and to which id where it had one.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    pub id: Option<RequestId>,
    pub error: ErrorReply,
}

/// Reads one line, with or without its newline. Never panics; an error names the field and what was expected there.
pub fn parse(line: &[u8]) -> Result<Request, Unreadable> {
    let anonymous = |error| Unreadable { id: None, error };
    let text = std::str::from_utf8(line).map_err(|error| {
        anonymous(ErrorReply::new(ErrorCode::ParseError, format!("the line is not UTF-8 from byte {} on", error.valid_up_to())))
    })?;
    if !is_shallow(line) {
        let message = format!("the line nests deeper than {MAX_JSON_DEPTH} levels");
        return Err(anonymous(ErrorReply::new(ErrorCode::TooDeep, message)));
    }
    let head = head(text).map_err(anonymous)?;
    let id = request_id(head.id).map_err(anonymous)?;
    match verb(text, head.jsonrpc, head.method, &head.params) {
        Ok(verb) => Ok(Request { id, verb }),
        Err(error) => Err(Unreadable { id: Some(id), error }),
    }
}

/// Whether no bracket of the line nests deeper than [`MAX_JSON_DEPTH`]. Exact for JSON; for anything else it does not matter.
fn is_shallow(line: &[u8]) -> bool {
    let (mut depth, mut is_string, mut is_escaped) = (0usize, false, false);
    for byte in line {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    return false;
                }
            }
            b']' | b'}' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

fn head(text: &str) -> Result<Head, ErrorReply> {
    // An array would be taken for the values of the head's fields in order.
    if text.trim_ascii_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| unreadable_head(&error));
    }
    let message = "not a JSON-RPC 2.0 request: expected one object in the line (there are no batches)";
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Err(ErrorReply::new(ErrorCode::InvalidRequest, message)),
        Err(error) => Err(unreadable_head(&error)),
    }
}

fn unreadable_head(error: &serde_json::Error) -> ErrorReply {
    match error.classify() {
        Category::Data => ErrorReply::new(ErrorCode::InvalidRequest, format!("not a JSON-RPC 2.0 request: {error}")),
        Category::Syntax | Category::Eof | Category::Io => ErrorReply::new(ErrorCode::ParseError, format!("not JSON: {error}")),
    }
}

fn request_id(id: Loose) -> Result<RequestId, ErrorReply> {
    let expected = format!("an integer or a string of at most {MAX_REQUEST_ID_BYTES} bytes");
    match id {
        Loose::Integer(number) => Ok(RequestId::Number(number)),
        Loose::Text(text) if text.len() <= MAX_REQUEST_ID_BYTES => Ok(RequestId::Text(text)),
        Loose::Absent => Err(invalid(ErrorCode::InvalidRequest, "id", &format!("missing: every request is answered; expected {expected}"))),
        other => Err(invalid(ErrorCode::InvalidRequest, "id", &format!("expected {expected}, not {}", other.kind()))),
    }
}

fn verb(text: &str, jsonrpc: Loose, method: Loose, params: &Loose) -> Result<Verb, ErrorReply> {
    match jsonrpc {
        Loose::Text(version) if version == "2.0" => {}
        _ => return Err(invalid(ErrorCode::InvalidRequest, "jsonrpc", "expected \"2.0\"")),
    }
    let method = match method {
        Loose::Text(method) => method,
        other => {
            return Err(invalid(ErrorCode::InvalidRequest, "method", &format!("expected the name of a verb, not {}", other.kind())));
        }
    };
    match params {
        Loose::Object | Loose::Absent => {}
        other => {
            let message = format!("expected an object with the parameters by name, not {}", other.kind());
            return Err(invalid(ErrorCode::InvalidParams, "params", &message));
        }
    }
    let reader = Reader { text, is_absent: matches!(params, Loose::Absent) };
    Verb::read(&method, reader).unwrap_or_else(|| {
        let known = METHODS.iter().map(|&method| method.to_owned()).collect();
        let message = format!("method: there is no verb `{method}`");
        Err(ErrorReply::new(ErrorCode::UnknownMethod, message).in_field("method").with_known(known))
    })
}

/// What serde says of a field, without its place in the line (the field says that) and the names of Rust's types.
fn in_words(problem: &str) -> String {
    const TYPES: [(&str, &str); 3] = [("f64", "a number"), ("u32", "a whole number"), ("u64", "a whole number")];
    let problem = problem.rfind(" at line ").and_then(|place| problem.get(..place)).unwrap_or(problem);
    let named = TYPES.iter().find_map(|(name, words)| Some((problem.strip_suffix(name)?, words)));
    named.map_or_else(|| problem.to_owned(), |(rest, words)| format!("{rest}{words}"))
}

fn invalid(code: ErrorCode, field: &str, problem: &str) -> ErrorReply {
    ErrorReply::new(code, format!("{field}: {problem}")).in_field(field)
}

/// Reads the parameters of one verb out of the whole line.
struct Reader<'a> {
    text: &'a str,
    is_absent: bool,
}

#[derive(Deserialize)]
#[serde(bound = "P: DeserializeOwned")]
struct Body<P> {
    params: P,
}

impl ReadParams for Reader<'_> {
    type Error = ErrorReply;

    fn read<P: Params>(self) -> Result<P, ErrorReply> {
        let text = if self.is_absent { r#"{"params":{}}"# } else { self.text };
        let mut json = serde_json::Deserializer::from_str(text);
        let body: Body<P> = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = error.path().to_string();
            invalid(ErrorCode::InvalidParams, &field, &in_words(&error.inner().to_string()))
        })?;
        match body.params.check() {
            Ok(()) => Ok(body.params),
            Err(unfit) => {
                let problem = format!("expected {}", unfit.expected);
                Err(invalid(ErrorCode::InvalidParams, &format!("params.{}", unfit.field), &problem))
            }
        }
    }
}

/// What every request has, whatever its values are.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    jsonrpc: Loose,
    #[serde(default)]
    id: Loose,
    #[serde(default)]
    method: Loose,
    #[serde(default)]
    params: Loose,
}

/// Any JSON value; only integers and strings are kept.
#[derive(Default)]
enum Loose {
    #[default]
    Absent,
    Null,
    Bool,
    Integer(i64),
    Number,
    Text(String),
    Array,
    Object,
}

impl Loose {
    fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Number => "a number",
            Self::Text(_) => "a string (or one that is too long)",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Loose, E> {
                Ok(Loose::Null)
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Loose, E> {
                Ok(Loose::Bool)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Loose, E> {
                Ok(Loose::Integer(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Loose, E> {
                Ok(i64::try_from(value).map_or(Loose::Number, Loose::Integer))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Loose, E> {
                Ok(Loose::Number)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Loose, A::Error> {
                while sequence.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose::Array)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose::Object)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> ErrorReply {
        parse(line.as_bytes()).unwrap_err().error
    }

    /// A line, the code and the field it must be refused with, and what the message must say.
    const REFUSED: &[(&str, ErrorCode, Option<&str>, &str)] = &[
        ("", ErrorCode::ParseError, None, "not JSON"),
        ("{", ErrorCode::ParseError, None, "not JSON"),
        ("hello", ErrorCode::ParseError, None, "not JSON"),
        ("[]", ErrorCode::InvalidRequest, None, "not a JSON-RPC 2.0 request"),
        ("3", ErrorCode::InvalidRequest, None, "not a JSON-RPC 2.0 request"),
        (r#"{"jsonrpc":"2.0","method":"ping"}"#, ErrorCode::InvalidRequest, Some("id"), "missing"),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, ErrorCode::InvalidRequest, Some("id"), "not null"),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, ErrorCode::InvalidRequest, Some("id"), "not a number"),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, ErrorCode::InvalidRequest, Some("jsonrpc"), "expected \"2.0\""),
        (r#"{"jsonrpc":"2.0","id":1}"#, ErrorCode::InvalidRequest, Some("method"), "not nothing"),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, ErrorCode::InvalidRequest, None, "duplicate field `id`"),
        (r#"["2.0",1,"ping"]"#, ErrorCode::InvalidRequest, None, "expected one object"),
        (r#"[1,"#, ErrorCode::ParseError, None, "not JSON"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"fly"}"#, ErrorCode::UnknownMethod, Some("method"), "no verb `fly`"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, ErrorCode::InvalidParams, Some("params"), "not an array"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"stop"}"#, ErrorCode::InvalidParams, Some("params"), "missing field `runtime`"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{"runtime":3}}"#,
            ErrorCode::InvalidParams,
            Some("params.runtime"),
            "expected a string",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{"runtime":"a/b"}}"#,
            ErrorCode::InvalidParams,
            Some("params.runtime"),
            "expected a runtime name",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{"runtime":"a","now":true}}"#,
            ErrorCode::InvalidParams,
            Some("params.now"),
            "unknown field `now`, expected `runtime`",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"push","params":{"runtime":"a","text":"","boundary":"bar"}}"#,
            ErrorCode::InvalidParams,
            Some("params.boundary"),
            "expected one of `frame`, `pulse`, `freeze`",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"push","params":{"runtime":"a"}}"#,
            ErrorCode::InvalidParams,
            Some("params.text"),
            "or its `path`",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"push","params":{"runtime":"a","path":"drums.8f4e"}}"#,
            ErrorCode::InvalidParams,
            Some("params.path"),
            "an absolute path",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"set","params":{"runtime":"a","values":[{"item":"x","value":1},{"item":"y","value":"z"}]}}"#,
            ErrorCode::InvalidParams,
            Some("params.values[1].value"),
            "expected a number",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"gain","params":{"runtime":"a","gain":-1}}"#,
            ErrorCode::InvalidParams,
            Some("params.gain"),
            "from 0 to 8",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"cancel","params":{"change":-1}}"#,
            ErrorCode::InvalidParams,
            Some("params.change"),
            "invalid value: integer `-1`, expected a whole number",
        ),
    ];

    #[test]
    fn an_error_names_the_field_and_what_was_expected_there() {
        for (line, code, field, text) in REFUSED {
            let error = error(line);
            assert_eq!((error.name(), error.data.field.as_deref()), (*code, *field), "{line}: {error:?}");
            assert!(error.message.contains(text), "{line}: {}", error.message);
        }
    }

    #[test]
    fn an_error_goes_to_the_id_it_belongs_to() {
        let unreadable = parse(br#"{"params":{"x":[{}]},"method":"ping","id":"seven","jsonrpc":"2.0"}"#).unwrap_err();
        assert_eq!(unreadable.id, Some(RequestId::Text("seven".into())));
        assert_eq!(parse(b"{]").unwrap_err().id, None);
    }

    #[test]
    fn absent_parameters_are_empty_parameters() {
        let request = parse(br#"{"jsonrpc":"2.0","id":1,"method":"status"}"#).unwrap();
        assert_eq!(request.verb, Verb::Status(super::super::Status { runtime: None }));
    }

    #[test]
    fn brackets_in_strings_are_not_depth() {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"push","params":{{"runtime":"a","text":"\"{}"}}}}"#, "[".repeat(100));
        assert!(parse(line.as_bytes()).is_ok());
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","x":{}{}}}"#, "[".repeat(32), "]".repeat(32));
        assert_eq!(error(&line).name(), ErrorCode::TooDeep);
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","x":{}{}}}"#, "[".repeat(31), "]".repeat(31));
        assert!(parse(line.as_bytes()).is_ok());
    }

    #[test]
    fn bad_utf_8_is_told_with_its_place() {
        let unreadable = parse(b"{\"id\":\xff}").unwrap_err();
        assert_eq!(unreadable.error.message, "the line is not UTF-8 from byte 6 on");
    }
}
