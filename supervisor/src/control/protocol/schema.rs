//! The protocol as a JSON schema, made from its types: `protocol.schema.json` beside this folder. A test keeps the file equal
//! to the types; run it with `CONTINUO_WRITE_SCHEMA=1` to write the file anew.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{ErrorCode, ErrorReply, Event, Lagged, PROTOCOL_VERSION, RequestId, verbs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/protocol.schema.json");

/// The whole schema. Its own keywords `methods`, `notifications` and `errors` list what the `anyOf` of whole lines is made of.
fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let id = generator.subschema_for::<RequestId>().to_value();
    let error = generator.subschema_for::<ErrorReply>().to_value();
    let notifications = json!({
        "event": generator.subschema_for::<Event>().to_value(),
        "lagged": generator.subschema_for::<Lagged>().to_value(),
    });
    let mut methods = Map::new();
    for (name, description, params, answer) in verbs::schemas(&mut generator) {
        methods.insert(name.to_owned(), json!({ "description": description, "params": params.to_value(), "result": answer.to_value() }));
    }
    let errors: Vec<Value> =
        ErrorCode::ALL.iter().map(|code| json!({ "code": code.number(), "name": code.name(), "meaning": code.meaning() })).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Control protocol of Continuo: one line",
        "version": PROTOCOL_VERSION,
        "anyOf": lines(&id, &error, &methods, &notifications),
        "methods": methods,
        "notifications": notifications,
        "errors": errors,
        "$defs": generator.take_definitions(true),
    })
}

/// The schemas of whole lines.
fn lines(id: &Value, error: &Value, methods: &Map<String, Value>, notifications: &Value) -> Vec<Value> {
    let mut lines: Vec<Value> = methods
        .iter()
        .map(|(name, method)| {
            let properties = json!({ "id": id, "method": { "const": name }, "params": method["params"] });
            line(&format!("request: {name}"), properties, &["id", "method"])
        })
        .collect();
    let mut results: Vec<&Value> = Vec::new();
    for result in methods.values().map(|method| &method["result"]) {
        if !results.contains(&result) {
            results.push(result);
        }
    }
    lines.push(line("reply", json!({ "id": id, "result": { "anyOf": results } }), &["id", "result"]));
    let any_id = json!({ "anyOf": [id, { "type": "null" }] });
    lines.push(line("error reply", json!({ "id": any_id, "error": error }), &["id", "error"]));
    for (name, params) in notifications.as_object().into_iter().flatten() {
        let properties = json!({ "method": { "const": name }, "params": params });
        lines.push(line(&format!("notification: {name}"), properties, &["method", "params"]));
    }
    lines
}

fn line(title: &str, mut properties: Value, required: &[&str]) -> Value {
    properties["jsonrpc"] = json!({ "const": "2.0" });
    let required: Vec<&str> = ["jsonrpc"].iter().chain(required).copied().collect();
    json!({ "title": title, "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// The keywords of JSON Schema that `document` uses, checked the slow and obvious way. An unknown keyword is a failure, so that
/// nothing is passed over unseen.
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(keywords) = schema.as_object() else {
        return if schema == &Value::Bool(false) { Err("nothing is allowed here".into()) } else { Ok(()) };
    };
    for (keyword, rule) in keywords {
        check_keyword(root, keywords, keyword, rule, value).map_err(|problem| format!("{keyword}: {problem}"))?;
    }
    Ok(())
}

fn check_keyword(root: &Value, schema: &Map<String, Value>, keyword: &str, rule: &Value, value: &Value) -> Result<(), String> {
    let demand = |holds: bool| if holds { Ok(()) } else { Err(format!("{value} does not fit {rule}")) };
    let matches = |alternatives: &Value| {
        let alternatives = alternatives.as_array().map(Vec::as_slice).unwrap_or_default();
        alternatives.iter().filter(|alternative| check(root, alternative, value).is_ok()).count()
    };
    match keyword {
        "$schema" | "$defs" | "title" | "description" | "version" | "methods" | "notifications" | "errors" | "format" | "default" => Ok(()),
        "$ref" => {
            let target = rule.as_str().and_then(|path| path.strip_prefix('#')).and_then(|path| root.pointer(path));
            check(root, target.ok_or_else(|| format!("{rule} leads nowhere"))?, value)
        }
        "type" => match rule {
            Value::Array(types) => demand(types.iter().any(|name| is_of_type(value, name))),
            name => demand(is_of_type(value, name)),
        },
        "const" => demand(rule == value),
        "enum" => demand(rule.as_array().is_some_and(|values| values.contains(value))),
        "anyOf" => demand(matches(rule) >= 1),
        "oneOf" => demand(matches(rule) == 1),
        "required" => {
            let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
            demand(!value.is_object() || names.into_iter().all(|name| value.get(name).is_some()))
        }
        "properties" => rule.as_object().into_iter().flatten().try_for_each(|(name, schema)| match value.get(name) {
            Some(value) => check(root, schema, value).map_err(|problem| format!("{name}: {problem}")),
            None => Ok(()),
        }),
        "additionalProperties" => {
            assert_eq!(rule, false, "any other value is not supported");
            let known = schema.get("properties").and_then(Value::as_object);
            let names = value.as_object().into_iter().flat_map(Map::keys);
            demand(names.into_iter().all(|name| known.is_some_and(|known| known.contains_key(name))))
        }
        "items" => value.as_array().into_iter().flatten().try_for_each(|item| check(root, rule, item)),
        "minItems" => demand(value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap())),
        "maxItems" => demand(value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap())),
        "minimum" => demand(value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap())),
        "maximum" => demand(value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap())),
        other => panic!("keyword {other} is not supported"),
    }
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => panic!("type {name} is not supported"),
    }
}

mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::control::protocol::{METHODS, RequestId, Topic, parse, read_answer, reply_line, request_line};

    const PROTOCOL: &str = include_str!("../../../../PROTOCOL.md");

    /// A line of an example: from the client, or from the supervisor.
    enum Spoken<'a> {
        Client(&'a str),
        Supervisor(&'a str),
    }

    /// The examples of PROTOCOL.md: blocks fenced as `jsonl`, each line beginning with `→ ` or `← `.
    fn examples() -> Vec<Vec<Spoken<'static>>> {
        let mut examples = Vec::new();
        for block in PROTOCOL.split("```jsonl\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let spoken = block.lines().map(|line| match (line.strip_prefix("→ "), line.strip_prefix("← ")) {
                (Some(line), None) => Spoken::Client(line),
                (None, Some(line)) => Spoken::Supervisor(line),
                _ => panic!("neither → nor ←: {line}"),
            });
            examples.push(spoken.collect());
        }
        examples
    }

    fn json(line: &str) -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn committed() -> Value {
        serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
    }

    #[test]
    fn the_schema_is_what_the_types_say() {
        if std::env::var_os("CONTINUO_WRITE_SCHEMA").is_some() {
            std::fs::write(FILE, format!("{:#}\n", document())).unwrap();
        }
        assert!(committed() == document(), "protocol.schema.json is out of date: run this test with CONTINUO_WRITE_SCHEMA=1");
    }

    #[test]
    fn every_example_of_the_description_fits_the_schema() {
        let schema = committed();
        for line in examples().iter().flatten() {
            let (line, is_refused) = match line {
                Spoken::Client(line) => (line, parse(line.as_bytes()).is_err()),
                Spoken::Supervisor(line) => (line, false),
            };
            if !is_refused {
                assert_eq!(check(&schema, &schema, &json(line)), Ok(()), "{line}");
            }
        }
    }

    #[test]
    fn every_example_of_the_description_is_what_the_parser_says() {
        let mut methods_seen = BTreeSet::new();
        let mut topics_seen = BTreeSet::new();
        for example in examples() {
            let mut asked: BTreeMap<String, String> = BTreeMap::new();
            let mut refusal: Option<Value> = None;
            for line in &example {
                match line {
                    Spoken::Client(line) => match parse(line.as_bytes()) {
                        Ok(request) => {
                            methods_seen.insert(request.verb.method());
                            asked.insert(serde_json::to_string(&request.id).unwrap(), request.verb.method().to_owned());
                        }
                        Err(unreadable) => {
                            let reply = reply_line(unreadable.id.as_ref(), &Err(unreadable.error));
                            refusal = Some(serde_json::from_slice(&reply).unwrap());
                        }
                    },
                    Spoken::Supervisor(line) => {
                        let value = json(line);
                        if let Some(refusal) = refusal.take() {
                            assert_eq!(value, refusal, "the parser refuses otherwise");
                        } else if value["method"] == "event" {
                            topics_seen.insert(read_event(&value));
                        } else if value["method"] == "lagged" {
                            let lagged: Lagged = serde_json::from_value(value["params"].clone()).unwrap();
                            assert_eq!(serde_json::to_value(lagged).unwrap(), value["params"]);
                        } else {
                            read_reply(&value, &asked);
                        }
                    }
                }
            }
            assert!(refusal.is_none(), "a refused line needs its reply");
        }
        assert_eq!(methods_seen, METHODS.iter().copied().collect(), "every verb has an example");
        assert_eq!(topics_seen, Topic::ALL.into_iter().collect(), "every topic has an example");
    }

    fn read_event(line: &Value) -> Topic {
        let event: Event = serde_json::from_value(line["params"].clone()).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(serde_json::to_value(&event).unwrap(), line["params"], "nothing is lost in reading it");
        event.topic()
    }

    fn read_reply(line: &Value, asked: &BTreeMap<String, String>) {
        if let Some(error) = line.get("error") {
            let read: ErrorReply = serde_json::from_value(error.clone()).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(&serde_json::to_value(&read).unwrap(), error);
            assert_eq!(read.code, read.name().number(), "{line}");
            return;
        }
        let method = asked.get(&line["id"].to_string()).unwrap_or_else(|| panic!("nobody asked for {line}"));
        let answer = read_answer(method, line["result"].clone()).unwrap().unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(serde_json::to_value(&answer).unwrap(), line["result"], "nothing is lost in reading it");
    }

    #[test]
    fn the_description_lists_every_error_and_every_verb() {
        for code in ErrorCode::ALL {
            let row = format!("| {} | `{}` | {} |", code.number(), code.name(), code.meaning());
            assert!(PROTOCOL.contains(&row), "missing in PROTOCOL.md:\n{row}");
        }
        for method in METHODS {
            assert!(PROTOCOL.contains(&format!("### `{method}`")), "no section on {method}");
        }
    }

    #[test]
    fn what_a_client_writes_is_what_the_parser_reads() {
        let push = crate::control::protocol::Push {
            runtime: crate::control::protocol::RuntimeName::new("drums").unwrap(),
            text: Some("8f4e/v1\n".into()),
            path: None,
            directory: Some("/music".into()),
            base: None,
            boundary: Some(crate::control::protocol::Boundary::Pulse),
            acknowledge: true,
            force: false,
            crossfade_ms: Some(20),
            answer: crate::control::protocol::AnswerWhen::Committed,
        };
        let line = request_line(7, &push);
        let request = parse(&line).unwrap();
        assert_eq!(request.id, RequestId::Number(7));
        assert_eq!(request.verb, crate::control::protocol::Verb::Push(push));
        let schema = committed();
        assert_eq!(check(&schema, &schema, &serde_json::from_slice(&line).unwrap()), Ok(()));
    }

    #[test]
    fn the_schema_refuses_what_the_parser_refuses() {
        let schema = committed();
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"fly","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{"runtime":3}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":{"runtime":"a","now":true}}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
            assert!(check(&schema, &schema, &json(line)).is_err(), "{line}");
        }
    }
}
