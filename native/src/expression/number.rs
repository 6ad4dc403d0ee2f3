//! Numbers: arithmetic, rounding, formats.

use super::eval::Given;
use super::node::{Method, Operator};
use super::{Env, Raised, Value, text};
use crate::ruby_inspect::write_float;

/// A number as a float.
pub fn float(value: &Value<'_>) -> f64 {
    match value {
        Value::Int(value) => *value as f64,
        Value::Float(value) => *value,
        _ => f64::NAN,
    }
}

fn too_large() -> Raised {
    Raised("RangeError: bignum too big".to_owned())
}

/// `+ - * / %` of numbers.
pub fn arithmetic<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>, Raised> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            let (left, right) = (*left, *right);
            if right == 0 && matches!(operator, Operator::Divide | Operator::Modulo) {
                return Err(Raised("ZeroDivisionError: divided by 0".to_owned()));
            }
            let value = match operator {
                Operator::Add => left.checked_add(right),
                Operator::Subtract => left.checked_sub(right),
                Operator::Multiply => left.checked_mul(right),
                // both round down, as the sign of the divisor says
                Operator::Divide => left
                    .checked_div(right)
                    .map(|whole| whole - i128::from(left % right != 0 && (left < 0) != (right < 0))),
                _ => left
                    .checked_rem(right)
                    .map(|rest| if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest }),
            };
            value.map(Value::Int).ok_or_else(too_large)
        }
        (_, Value::Int(_) | Value::Float(_)) => {
            let (left, right) = (float(left), float(right));
            if right == 0.0 && operator == Operator::Modulo {
                return Err(Raised("ZeroDivisionError: divided by 0".to_owned()));
            }
            Ok(Value::Float(match operator {
                Operator::Add => left + right,
                Operator::Subtract => left - right,
                Operator::Multiply => left * right,
                Operator::Divide => left / right,
                _ => {
                    let rest = left % right;
                    if rest != 0.0 && (rest < 0.0) != (right < 0.0) && right.is_finite() {
                        rest + right
                    } else if right.is_infinite() && left != 0.0 && (left < 0.0) != (right < 0.0) {
                        right
                    } else {
                        rest
                    }
                }
            }))
        }
        (_, other) => {
            let name = other.conversion_name();
            Err(Raised(format!("TypeError: {name} can't be coerced into {}", left.class())))
        }
    }
}

fn whole<'a>(value: f64) -> Result<Value<'a>, Raised> {
    if value.is_nan() {
        return Err(Raised("FloatDomainError: NaN".to_owned()));
    }
    if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        return Err(Raised(format!("FloatDomainError: {sign}Infinity")));
    }
    if value.abs() >= 1e38 { Err(too_large()) } else { Ok(Value::Int(value as i128)) }
}

/// Methods of numbers.
pub fn call<'a>(
    value: &Value<'a>,
    method: Method,
    arguments: &[Given<'a>],
) -> Result<Option<Value<'a>>, Raised> {
    Ok(Some(match (value, method, arguments) {
        (Value::Int(value), Method::ToS, [base]) => {
            let base = base.int()?;
            if !(2..=36).contains(&base) {
                return Err(Raised(format!("ArgumentError: invalid radix {base}")));
            }
            Value::text(in_base(*value, base as u32))
        }
        (Value::Int(value), Method::ToI | Method::Floor | Method::Ceil | Method::Truncate, []) => {
            Value::Int(*value)
        }
        (Value::Int(value), Method::Round, []) => Value::Int(*value),
        (Value::Int(value), Method::Round, [digits]) => {
            let digits = digits.int()?;
            if digits >= 0 { Value::Int(*value) } else { rounded_tens(*value, digits.unsigned_abs()) }
        }
        (_, Method::ToF, []) => Value::Float(float(value)),
        (Value::Float(value), Method::ToI | Method::Truncate, []) => whole(value.trunc())?,
        (Value::Float(value), Method::Floor, []) => whole(value.floor())?,
        (Value::Float(value), Method::Ceil, []) => whole(value.ceil())?,
        (Value::Float(value), Method::Round, []) => whole(value.round())?,
        (Value::Float(value), Method::Round, [digits]) => match digits.int()? {
            0 => whole(value.round())?,
            digits if digits > 0 => Value::Float(rounded(*value, digits)),
            digits => match whole(value.trunc())? {
                Value::Int(value) => rounded_tens(value, digits.unsigned_abs()),
                other => other,
            },
        },
        (_, Method::Fdiv, [by]) => match by.value()? {
            by @ (Value::Int(_) | Value::Float(_)) => Value::Float(float(value) / float(by)),
            other => return Err(other.no_conversion("Float")),
        },
        (Value::Int(value), Method::Abs, []) => Value::Int(value.abs()),
        (Value::Float(value), Method::Abs, []) => Value::Float(value.abs()),
        (_, Method::IsZero, []) => Value::Bool(float(value) == 0.0),
        (_, Method::IsPositive, []) => Value::Bool(float(value) > 0.0),
        (_, Method::IsNegative, []) => Value::Bool(float(value) < 0.0),
        (Value::Int(value), Method::IsEven, []) => Value::Bool(value % 2 == 0),
        (Value::Int(value), Method::IsOdd, []) => Value::Bool(value % 2 != 0),
        _ => return Ok(None),
    }))
}

fn in_base(value: i128, base: u32) -> String {
    let mut rest = value.unsigned_abs();
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((rest % u128::from(base)) as u32, base).unwrap_or('0'));
        rest /= u128::from(base);
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

/// To tens, hundreds and so on; halves go away from zero.
fn rounded_tens<'a>(value: i128, zeros: u64) -> Value<'a> {
    let Some(unit) = u32::try_from(zeros).ok().and_then(|zeros| 10i128.checked_pow(zeros)) else {
        return Value::Int(0);
    };
    let rest = value.abs() % unit;
    let up = if rest * 2 >= unit { unit - rest } else { -rest };
    Value::Int(value.signum() * (value.abs() + up))
}

/// `Float#round(digits)` as Ruby's float.c does it.
fn rounded(value: f64, digits: i64) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    // the exponent of frexp: value = m * 2^e with 0.5 <= m < 1
    let exponent = i64::from(((value.to_bits() >> 52) & 0x7ff) as i32 - 1022);
    let places = if exponent > 0 { exponent / 4 } else { exponent / 3 - 1 };
    if digits >= 17 - places {
        return value;
    }
    if digits < -(if exponent > 0 { exponent / 3 + 1 } else { exponent / 4 }) {
        return 0.0;
    }
    if digits > 14 {
        return format!("{value:.*}", digits as usize).parse().unwrap_or(value);
    }
    let scale = 10f64.powi(digits as i32);
    let mut scaled = (value * scale).round();
    if value > 0.0 && (scaled + 0.5) / scale <= value {
        scaled += 1.0;
    } else if value < 0.0 && (scaled - 0.5) / scale >= value {
        scaled -= 1.0;
    }
    scaled / scale
}

/// `format(...)` with `%d %i %u %f %s %x %X %o %b %p %c %%`, flags, width and precision.
pub fn format<'a>(format: &[u8], values: &[&Value<'a>], env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    let argument = |text: &str| Raised(format!("ArgumentError: {text}"));
    let mut out = Vec::new();
    let (mut at, mut next) = (0, 0);
    while at < format.len() {
        if format[at] != b'%' {
            out.push(format[at]);
            at += 1;
            continue;
        }
        at += 1;
        let (mut left, mut zero, mut sign) = (false, false, &b""[..]);
        while let Some(flag) = format.get(at) {
            match flag {
                b'-' => left = true,
                b'0' => zero = true,
                b'+' => sign = b"+",
                b' ' => sign = b" ",
                _ => break,
            }
            at += 1;
        }
        let mut number = || {
            let start = at;
            while format.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            let digits = std::str::from_utf8(&format[start..at]).unwrap_or_default();
            digits.parse::<usize>().unwrap_or(0).min(65_536)
        };
        let width = number();
        let precision = if format.get(at) == Some(&b'.') {
            at += 1;
            let start = at;
            while format.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            let digits = std::str::from_utf8(&format[start..at]).unwrap_or_default();
            Some(digits.parse::<usize>().unwrap_or(0).min(1000))
        } else {
            None
        };
        let kind = *format
            .get(at)
            .ok_or_else(|| argument("incomplete format specifier; use %% (double %) instead"))?;
        at += 1;
        if kind == b'%' {
            out.push(b'%');
            continue;
        }
        let value = *values.get(next).ok_or_else(|| argument("too few arguments"))?;
        next += 1;
        let (negative, mut body): (bool, Vec<u8>) = match kind {
            b's' | b'p' => {
                let shown = if kind == b's' {
                    value.to_s(env)?
                } else {
                    super::data::inspect(value, env)?.to_s(env)?
                };
                let end = precision.map_or(shown.len(), |most| text::char_end(&shown, most));
                (false, shown[..end].to_vec())
            }
            b'd' | b'i' | b'u' | b'x' | b'X' | b'o' | b'b' => {
                let value = integer(value)?;
                if value < 0 && !matches!(kind, b'd' | b'i' | b'u') && sign.is_empty() {
                    return Err(argument("a negative number in this base is not written here"));
                }
                let base = match kind {
                    b'x' | b'X' => 16,
                    b'o' => 8,
                    b'b' => 2,
                    _ => 10,
                };
                let mut digits = in_base(value.abs(), base).into_bytes();
                if kind == b'X' {
                    digits.make_ascii_uppercase();
                }
                let fill = precision.unwrap_or(0).saturating_sub(digits.len());
                digits.splice(0..0, std::iter::repeat_n(b'0', fill));
                (value < 0, digits)
            }
            b'f' => {
                let value = match value {
                    Value::Text(_) | Value::Nil | Value::Bool(_) | Value::Data(_) | Value::Record => {
                        strict_float(value)?
                    }
                    number => float(number),
                };
                if value.is_finite() {
                    (
                        value.is_sign_negative(),
                        format!("{:.*}", precision.unwrap_or(6), value.abs()).into_bytes(),
                    )
                } else {
                    let mut shown = Vec::new();
                    write_float(&mut shown, value.abs());
                    shown.truncate(3);
                    zero = false;
                    (value < 0.0, shown)
                }
            }
            _ => return Err(argument(&format!("%{} is not known here", char::from(kind)))),
        };
        let numeric = !matches!(kind, b's' | b'p');
        let sign = match (numeric, negative) {
            (true, true) => b"-",
            (true, false) => sign,
            _ => b"",
        };
        let fill = width.saturating_sub(text::count_chars(&body) + sign.len());
        let zeros = zero && numeric && !left && !(precision.is_some() && kind != b'f');
        if zeros {
            body.splice(0..0, std::iter::repeat_n(b'0', fill));
        }
        if !left && !zeros {
            out.resize(out.len() + fill, b' ');
        }
        out.extend_from_slice(sign);
        out.append(&mut body);
        if left {
            out.resize(out.len() + fill, b' ');
        }
        super::limited(out.len())?;
    }
    Ok(Value::text(out))
}

/// As `Integer(x)` does it for `%d`.
fn integer(value: &Value<'_>) -> Result<i128, Raised> {
    match value {
        Value::Int(value) => Ok(*value),
        Value::Float(value) => match whole(value.trunc())? {
            Value::Int(value) => Ok(value),
            _ => Err(too_large()),
        },
        Value::Text(text) => {
            let shown = String::from_utf8_lossy(text);
            let digits = shown.trim().replace('_', "").to_ascii_lowercase();
            let (sign, size) = match digits.strip_prefix('-') {
                Some(size) => (-1, size),
                None => (1, digits.strip_prefix('+').unwrap_or(&digits)),
            };
            let (base, size) = match size.get(..2) {
                Some("0x") => (16, &size[2..]),
                Some("0b") => (2, &size[2..]),
                Some("0o") => (8, &size[2..]),
                Some("0d") => (10, &size[2..]),
                Some(start) if start.starts_with('0') => (8, &size[1..]),
                _ => (10, size),
            };
            let plain = size.starts_with(|first: char| first.is_ascii_alphanumeric());
            let value = i128::from_str_radix(size, base).ok().filter(|_| plain);
            value
                .map(|value| sign * value)
                .ok_or_else(|| Raised(format!("ArgumentError: invalid value for Integer(): {shown:?}")))
        }
        other => Err(Raised(format!("TypeError: can't convert {} into Integer", other.conversion_name()))),
    }
}

fn strict_float(value: &Value<'_>) -> Result<f64, Raised> {
    let Value::Text(text) = value else {
        return Err(Raised(format!("TypeError: can't convert {} into Float", value.conversion_name())));
    };
    let shown = String::from_utf8_lossy(text);
    let digits = shown.trim().replace('_', "");
    let plain = digits.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+');
    match digits.parse() {
        Ok(value) if plain => Ok(value),
        _ => Err(Raised(format!("ArgumentError: invalid value for Float(): {shown:?}"))),
    }
}
