//! Arguments of an instruction line: what one token is (LANGUAGE §4).
//!
//! A token becomes a number, a string, a name of some shape or an expression with one operator. Whether a name exists is not
//! asked here. Values are IEEE doubles throughout, as the language demands.

use std::borrow::Cow;

use super::error::SyntaxCode;
use super::power::power;
use super::program::{LiteralKind, PointeeQuery};

/// A number of the language before it has a place in a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    pub value: f64,
    pub kind: LiteralKind,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Number(Number),
    /// A string literal, escapes resolved.
    Text(Cow<'a, str>),
    Name(Name<'a>),
    /// Boxed, as there are few, and all values are as large as the largest.
    Expression(Box<Expression<'a>>),
}

/// Two operands and what is done with them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expression<'a> {
    pub left: Operand<'a>,
    pub operator: Operator,
    pub right: Operand<'a>,
}

/// One side of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand<'a> {
    Number(Number),
    Name(Name<'a>),
}

/// The shapes a name can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Name<'a> {
    Plain(&'a str),
    /// First character A–Z and no a–z anywhere.
    ConstantStyle(&'a str),
    /// `*x`, `**x`.
    Dereference {
        name: &'a str,
        depth: u8,
    },
    Reference(Reference<'a>),
    /// `count(*x)` and its like.
    PointeeQuery {
        query: PointeeQuery,
        name: &'a str,
    },
}

/// Compile-time forms that the memory layout answers. `module: None` means the module they stand in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reference<'a> {
    /// `&m:`
    ModuleStart { module: &'a str },
    /// `m:&`
    ModuleEnd { module: &'a str },
    /// `&m:3`: the fourth declaration of a module.
    Slot { module: &'a str, index: &'a str },
    /// `&x`, `&m:x`; `&this` for the module itself.
    ItemStart { module: Option<&'a str>, item: &'a str },
    /// `x&`, `m:x&`; `this&` for the module itself.
    ItemEnd { module: Option<&'a str>, item: &'a str },
    /// `count(x)`, `sizeof(m:x)` and their like.
    Query { query: PointeeQuery, module: Option<&'a str>, item: &'a str },
}

/// Operators of compile-time expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
}

/// Why a token is no argument: code and message.
pub type TokenError = (SyntaxCode, String);

impl Operator {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'+' => Self::Add,
            b'-' => Self::Subtract,
            b'*' => Self::Multiply,
            b'/' => Self::Divide,
            b'^' => Self::Power,
            _ => return None,
        })
    }

    /// Computes in doubles (LANGUAGE §4). `None` for a division by zero, which does not fold.
    pub fn apply(self, left: Number, right: Number) -> Option<Number> {
        let value = match self {
            Self::Add => left.value + right.value,
            Self::Subtract => left.value - right.value,
            Self::Multiply => left.value * right.value,
            Self::Divide if right.value == 0.0 => return None,
            Self::Divide => left.value / right.value,
            Self::Power => power(left.value, right.value),
        };
        let kind = match (left.kind, right.kind) {
            (LiteralKind::Float64, _) | (_, LiteralKind::Float64) => LiteralKind::Float64,
            (LiteralKind::Int, LiteralKind::Int) if value.is_finite() && value.fract() == 0.0 => LiteralKind::Int,
            _ => LiteralKind::Float,
        };
        Some(Number { value, kind })
    }
}

/// Tells what a token is.
pub fn classify(token: &str) -> Result<Value<'_>, TokenError> {
    if is_word(token) {
        return Ok(Value::Name(plain_name(token)));
    }
    if let Some(folded) = literal_expression(token)? {
        return Ok(Value::Number(folded));
    }
    if token.starts_with('"') {
        return string(token).map(Value::Text);
    }
    if let Some(number) = number(token)? {
        return Ok(Value::Number(number));
    }
    if let Some(expression) = expression(token)? {
        return Ok(expression);
    }
    name(token).map(Value::Name)
}

/// Rule 1: exactly one of `* / ^`, between two numbers.
fn literal_expression(token: &str) -> Result<Option<Number>, TokenError> {
    let is_operator = |byte: &u8| matches!(byte, b'*' | b'/' | b'^');
    let bytes = token.as_bytes();
    let Some(at) = bytes.iter().position(is_operator) else { return Ok(None) };
    if at == 0 || at + 1 == bytes.len() || bytes[at + 1..].iter().any(is_operator) {
        return Ok(None);
    }
    let (left, right) = (&token[..at], &token[at + 1..]);
    match (number(left)?, number(right)?) {
        (Some(left), Some(right)) => {
            let folded = Operator::from_byte(bytes[at]).and_then(|operator| operator.apply(left, right));
            folded.map(Some).ok_or_else(|| (SyntaxCode::DivisionByZero, token.to_owned()))
        }
        (None, _) if is_malformed_number(left) => Err(malformed(token)),
        (_, None) if is_malformed_number(right) => Err(malformed(token)),
        _ => Ok(None),
    }
}

fn malformed(token: &str) -> TokenError {
    (SyntaxCode::InvalidNumericLiteral, format!("Invalid numeric literal or expression: {token}"))
}

/// Starts like a number: `^-?(\d|\.\d)`.
fn looks_numeric(token: &str) -> bool {
    match token.strip_prefix('-').unwrap_or(token).as_bytes() {
        [b'.', second, ..] => second.is_ascii_digit(),
        [first, ..] => first.is_ascii_digit(),
        [] => false,
    }
}

/// Looks numeric and consists of nothing but characters that numbers are made of.
fn is_malformed_number(token: &str) -> bool {
    let part_of_number =
        |byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'x' | b'X' | b'f' | b'b' | b'B' | b'+' | b'-' | b'*' | b'/' | b'^');
    looks_numeric(token) && token.bytes().all(part_of_number)
}

/// Rule 3: a numeric literal. An error if it is one, but not finite.
pub fn number(token: &str) -> Result<Option<Number>, TokenError> {
    if !looks_numeric(token) {
        return Ok(None);
    }
    let unsigned = token.strip_prefix('-').unwrap_or(token);
    let sign = if unsigned.len() < token.len() { -1.0 } else { 1.0 };
    let parsed = match unsigned.as_bytes() {
        [b'0', b'x', digits @ ..] => radix(digits, 16).map(|value| (value, LiteralKind::Int)),
        [b'0', b'b', digits @ ..] => radix(digits, 2).map(|value| (value, LiteralKind::Int)),
        _ => decimal(unsigned),
    };
    match parsed {
        Some((value, kind)) if value.is_finite() => Ok(Some(Number { value: sign * value, kind })),
        Some(_) => Err((SyntaxCode::InvalidNumericLiteral, format!("Invalid numeric literal: {token}"))),
        None => Ok(None),
    }
}

/// `(D+.?D*|.D+)([eE][+-]?D+)?(f64)?`
fn decimal(text: &str) -> Option<(f64, LiteralKind)> {
    let (mantissa, is_float64) = match text.strip_suffix("f64") {
        Some(mantissa) => (mantissa, true),
        None => (text, false),
    };
    let bytes = mantissa.as_bytes();
    let digits_from = |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole_end = digits_from(0);
    let mut end = whole_end;
    if bytes.get(end) == Some(&b'.') {
        end = digits_from(end + 1);
        if end == 1 {
            return None;
        }
    } else if whole_end == 0 {
        return None;
    }
    let has_exponent = matches!(bytes.get(end), Some(b'e' | b'E'));
    if has_exponent {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let digits = end + 1 + sign;
        end = digits_from(digits.min(bytes.len()));
        if end <= digits {
            return None;
        }
    }
    if end != bytes.len() {
        return None;
    }
    let kind = match (is_float64, end == whole_end) {
        (true, _) => LiteralKind::Float64,
        (false, true) => LiteralKind::Int,
        (false, false) => LiteralKind::Float,
    };
    Some((mantissa.parse().ok()?, kind))
}

/// Digits of a power-of-two base, rounded to the nearest double, ties to even.
fn radix(digits: &[u8], base: u32) -> Option<f64> {
    // 26 hexadecimal digits are 104 bits: far more than a double keeps, and within u128 with room for the sticky bit.
    const EXACT_DIGITS: usize = 26;
    if digits.is_empty() {
        return None;
    }
    let significant = digits.len() - digits.iter().take_while(|&&digit| digit == b'0').count();
    let digits_kept = &digits[digits.len() - significant..];
    let (mut top, mut dropped, mut sticky) = (0u128, 0i32, false);
    for (index, &digit) in digits.iter().enumerate() {
        let digit = char::from(digit).to_digit(base)?;
        let position = (index + digits_kept.len()).checked_sub(digits.len());
        match position {
            Some(position) if position >= EXACT_DIGITS => {
                dropped = dropped.saturating_add(1);
                sticky |= digit != 0;
            }
            _ => top = top * u128::from(base) + u128::from(digit),
        }
    }
    let bits_per_digit = base.trailing_zeros() as i32;
    let value = if sticky { top | 1 } else { top } as f64;
    Some(value * 2f64.powi(dropped.saturating_mul(bits_per_digit)))
}

/// Rule 2: a string literal, escapes resolved.
fn string(token: &str) -> Result<Cow<'_, str>, TokenError> {
    // The tokenizer only makes tokens whose strings are closed.
    let inner = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        text.push(match chars.next() {
            Some(c @ ('"' | '\\')) => c,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('x') => hex_escape(chars.as_str()).inspect(|_| chars = chars.as_str()[2..].chars()).ok_or_else(|| unknown_escape('x'))?,
            Some(c) => return Err(unknown_escape(c)),
            None => return Err((SyntaxCode::InvalidStringLiteral, "Unterminated string literal".to_owned())),
        });
    }
    Ok(Cow::Owned(text))
}

fn hex_escape(rest: &str) -> Option<char> {
    let digits = rest.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok().map(char::from)
}

fn unknown_escape(c: char) -> TokenError {
    (SyntaxCode::InvalidStringLiteral, format!("Unknown escape sequence: \\{c}"))
}

/// Rule 4: exactly one operator outside parentheses, between two operands.
fn expression(token: &str) -> Result<Option<Value<'_>>, TokenError> {
    let Some(at) = only_operator(token.as_bytes()) else { return Ok(None) };
    let Some(operator) = Operator::from_byte(token.as_bytes()[at]) else { return Ok(None) };
    let (Some(left), Some(right)) = (operand(&token[..at])?, operand(&token[at + 1..])?) else { return Ok(None) };
    Ok(Some(match (left, right) {
        (Operand::Number(left), Operand::Number(right)) => match operator.apply(left, right) {
            Some(folded) => Value::Number(folded),
            None => return Err((SyntaxCode::DivisionByZero, token.to_owned())),
        },
        (left, right) => Value::Expression(Box::new(Expression { left, operator, right })),
    }))
}

/// Position of the operator, if there is exactly one and it is neither first nor last.
fn only_operator(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut found) = (0i32, None);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'+' | b'-' if at == 0 || Operator::from_byte(bytes[at - 1]).is_some() => {}
            _ if depth == 0 && Operator::from_byte(byte).is_some() => {
                if at == 0 || at + 1 == bytes.len() || found.is_some() {
                    return None;
                }
                found = Some(at);
            }
            _ => {}
        }
    }
    found
}

/// `None` for what is no operand, so that the whole token is no expression.
fn operand(text: &str) -> Result<Option<Operand<'_>>, TokenError> {
    if let Some(number) = number(text)? {
        return Ok(Some(Operand::Number(number)));
    }
    if text.is_empty() || looks_numeric(text) {
        return Ok(None);
    }
    name(text).map(|name| Some(Operand::Name(name)))
}

/// Rules 5 and 6: an identifier and its shape.
fn name(token: &str) -> Result<Name<'_>, TokenError> {
    if looks_numeric(token) {
        return Err(match is_malformed_number(token) {
            true => malformed(token),
            false => (SyntaxCode::InvalidIdentifier, format!("Identifiers cannot start with numbers: {token}")),
        });
    }
    if let Some(target) = token.strip_prefix('&') {
        if let Some(reference) = start_address(target) {
            return nonempty(target, token, Name::Reference(reference));
        }
    } else if let Some(target) = token.strip_suffix('&') {
        if let Some(reference) = end_address(target) {
            return Ok(Name::Reference(reference));
        }
    } else if let Some(name) = metadata_query(token)? {
        return Ok(name);
    } else if token.starts_with('*') {
        return dereference(token);
    }
    Ok(plain_name(token))
}

fn plain_name(token: &str) -> Name<'_> {
    if is_constant_style(token) { Name::ConstantStyle(token) } else { Name::Plain(token) }
}

/// Nothing but letters, digits and `_`, and no digit first: most tokens are that, and such a one can only be a name.
fn is_word(token: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    token.as_bytes().first().is_some_and(|first| !first.is_ascii_digit()) && token.bytes().all(is_part)
}

fn nonempty<'a>(target: &str, token: &str, name: Name<'a>) -> Result<Name<'a>, TokenError> {
    if target.is_empty() { Err(empty_target(token)) } else { Ok(name) }
}

fn empty_target(token: &str) -> TokenError {
    (SyntaxCode::InvalidIdentifier, format!("Missing name in {token}"))
}

/// What may stand on either side of the colon in addresses.
fn is_part(text: &str) -> bool {
    !text.is_empty() && !text.contains(['&', ':', '.'])
}

fn start_address(target: &str) -> Option<Reference<'_>> {
    let Some((module, item)) = target.split_once(':') else { return Some(Reference::ItemStart { module: None, item: target }) };
    if !is_part(module) {
        return None;
    }
    match item {
        "" => Some(Reference::ModuleStart { module }),
        index if index.bytes().all(|byte| byte.is_ascii_digit()) => Some(Reference::Slot { module, index }),
        item if is_part(item) => Some(Reference::ItemStart { module: Some(module), item }),
        _ => None,
    }
}

fn end_address(target: &str) -> Option<Reference<'_>> {
    let Some((module, item)) = target.split_once(':') else { return Some(Reference::ItemEnd { module: None, item: target }) };
    match item {
        _ if !is_part(module) => None,
        "" => Some(Reference::ModuleEnd { module }),
        item if is_part(item) => Some(Reference::ItemEnd { module: Some(module), item }),
        _ => None,
    }
}

fn metadata_query(token: &str) -> Result<Option<Name<'_>>, TokenError> {
    let Some((word, rest)) = token.split_once('(') else { return Ok(None) };
    let query = match word {
        "count" => PointeeQuery::Count,
        "sizeof" => PointeeQuery::Sizeof,
        "max" => PointeeQuery::Max,
        "min" => PointeeQuery::Min,
        _ => return Ok(None),
    };
    let Some(target) = rest.strip_suffix(')') else { return Ok(None) };
    if target.is_empty() || target == "*" {
        return Err(empty_target(token));
    }
    if target.contains(['(', ')']) {
        return Ok(None);
    }
    Ok(match (target.strip_prefix('*'), target.split_once(':')) {
        (Some(name), None) => Some(Name::PointeeQuery { query, name }),
        (None, None) => Some(Name::Reference(Reference::Query { query, module: None, item: target })),
        (None, Some((module, item))) if !module.is_empty() && !item.is_empty() && !item.contains(':') => {
            Some(Name::Reference(Reference::Query { query, module: Some(module), item }))
        }
        _ => None,
    })
}

fn dereference(token: &str) -> Result<Name<'_>, TokenError> {
    let name = token.trim_start_matches('*');
    match token.len() - name.len() {
        3.. => Err((SyntaxCode::InvalidPointerDepth, String::new())),
        _ if name.is_empty() => Err(empty_target(token)),
        depth => Ok(Name::Dereference { name, depth: depth as u8 }),
    }
}

/// First character A–Z and no a–z anywhere.
pub fn is_constant_style(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_uppercase()) && !token.bytes().any(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: f64) -> Value<'static> {
        Value::Number(Number { value, kind: LiteralKind::Int })
    }

    fn float(value: f64) -> Value<'static> {
        Value::Number(Number { value, kind: LiteralKind::Float })
    }

    fn code(token: &str) -> i32 {
        classify(token).expect_err(token).0.number()
    }

    #[test]
    fn numbers_have_the_kind_their_spelling_says() {
        let float64 = |value| Value::Number(Number { value, kind: LiteralKind::Float64 });
        assert_eq!(classify("12"), Ok(int(12.0)));
        assert_eq!(classify("-0x10"), Ok(int(-16.0)));
        assert_eq!(classify("-0b11"), Ok(int(-3.0)));
        assert_eq!(classify("4294967296"), Ok(int(4294967296.0)));
        for (text, value) in [("1.", 1.0), (".5", 0.5), ("-.5", -0.5), ("1e3", 1000.0), ("2.5E-1", 0.25)] {
            assert_eq!(classify(text), Ok(float(value)), "{text}");
        }
        for (text, value) in [("2f64", 2.0), (".5f64", 0.5), ("1e3f64", 1000.0)] {
            assert_eq!(classify(text), Ok(float64(value)), "{text}");
        }
    }

    #[test]
    fn long_hexadecimal_numbers_are_rounded_once() {
        assert_eq!(classify("0x20000000000001"), Ok(int(9007199254740992.0)));
        assert_eq!(classify("0x200000000000010000000000000000000000001"), Ok(int(9007199254740992.0 * 2f64.powi(100) + 2f64.powi(101))));
        assert_eq!(classify("0x0000000000000000000000000000000000000000000000001"), Ok(int(1.0)));
        assert_eq!(code(&format!("0x{}", "f".repeat(300))), 3);
    }

    #[test]
    fn expressions_of_two_literals_fold() {
        for (text, value) in [("3*4", 12.0), ("6/2", 3.0), ("2^16", 65536.0), ("10--4", 14.0), ("-10-4", -14.0), ("3+4", 7.0)] {
            assert_eq!(classify(text), Ok(int(value)), "{text}");
        }
        assert_eq!(classify("7/2"), Ok(float(3.5)));
        assert_eq!(classify("1e-3*2"), Ok(float(0.002)));
        assert_eq!(classify("2e3*2"), Ok(float(4000.0)));
        assert!(matches!(classify("2f64*3"), Ok(Value::Number(Number { value: 6.0, kind: LiteralKind::Float64 }))));
    }

    #[test]
    fn tokens_that_look_like_numbers_must_be_numbers() {
        for token in ["5f", "5f32", "1e", "0x", "1e400", "2*3*4", "1.2.3", "SIZE*5f"] {
            assert_eq!(code(token), 3, "{token}");
        }
        assert_eq!(code("1abc"), 1);
        assert_eq!(code("1/0"), 6);
    }

    #[test]
    fn strings_resolve_their_escapes() {
        assert_eq!(classify(r#""\x41\n\t\\\"""#), Ok(Value::Text("A\n\t\\\"".into())));
        assert_eq!(classify(r#""1*2""#), Ok(Value::Text("1*2".into())));
        for token in [r#""\q""#, r#""\x4""#, r#""\xé""#] {
            assert_eq!(code(token), 7, "{token}");
        }
    }

    #[test]
    fn expressions_have_one_operator_outside_parentheses() {
        let expression = |token| match classify(token) {
            Ok(Value::Expression(expression)) => *expression,
            other => panic!("no expression: {other:?}"),
        };
        let Expression { left, operator, right } = expression("count(*a)*sizeof(b)");
        assert_eq!(left, Operand::Name(Name::PointeeQuery { query: PointeeQuery::Count, name: "a" }));
        assert_eq!(operator, Operator::Multiply);
        assert_eq!(right, Operand::Name(Name::Reference(Reference::Query { query: PointeeQuery::Sizeof, module: None, item: "b" })));
        assert!(matches!(expression("A*-1").right, Operand::Number(Number { value: -1.0, .. })));
        for token in ["A*1e-3", "-A", "+5", "A+B+C", "A+"] {
            assert!(matches!(classify(token), Ok(Value::Name(Name::Plain(_) | Name::ConstantStyle(_)))), "{token}");
        }
    }

    #[test]
    fn names_have_shapes() {
        let reference = |token| match classify(token) {
            Ok(Value::Name(Name::Reference(reference))) => reference,
            other => panic!("{token}: {other:?}"),
        };
        assert_eq!(reference("&m:"), Reference::ModuleStart { module: "m" });
        assert_eq!(reference("m:&"), Reference::ModuleEnd { module: "m" });
        assert_eq!(reference("&m:12"), Reference::Slot { module: "m", index: "12" });
        assert_eq!(reference("&m:x"), Reference::ItemStart { module: Some("m"), item: "x" });
        assert_eq!(reference("m:x&"), Reference::ItemEnd { module: Some("m"), item: "x" });
        assert_eq!(reference("&x"), Reference::ItemStart { module: None, item: "x" });
        assert_eq!(reference("x&"), Reference::ItemEnd { module: None, item: "x" });
        assert_eq!(reference("max(m:x)"), Reference::Query { query: PointeeQuery::Max, module: Some("m"), item: "x" });
        assert_eq!(classify("**p"), Ok(Value::Name(Name::Dereference { name: "p", depth: 2 })));
        assert_eq!(classify("AÉ1"), Ok(Value::Name(Name::ConstantStyle("AÉ1"))));
        for token in ["m:x", "&a:b:c", "int*", "float64**", "x.y", "É", "count(a"] {
            assert_eq!(classify(token), Ok(Value::Name(Name::Plain(token))), "{token}");
        }
    }

    #[test]
    fn empty_and_too_deep_shapes_are_errors() {
        for token in ["&", "count()", "count(*)", "*", "**"] {
            assert_eq!(code(token), 1, "{token}");
        }
        assert_eq!(code("***p"), 4);
    }
}
