//! Types of an expression, by evaluating its parts with samples.

use cel::common::ast::{Expr, IdedExpr, operators};
use cel::objects::ValueType as CelType;
use cel::{Context, ExecutionError, Value as CelValue};

/// Evaluates the parts that evaluation of the whole may pass by, and both sides of comparisons, which CEL lets be of any types.
pub(super) fn check_types(expression: &IdedExpr, context: &Context) -> Result<(), String> {
    let Expr::Call(call) = &expression.expr else { return Ok(()) };
    call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(|part| check_types(part, context))?;
    let type_of = |part: &IdedExpr| match CelValue::resolve(part, context) {
        Ok(value) => Ok(Some(value.type_of())),
        Err(error) => tell_type_error(&error).map(|()| None),
    };
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT, parts) => {
            for part in parts {
                if let Some(type_) = type_of(part)?.filter(|type_| !matches!(type_, CelType::Bool)) {
                    return Err(format!("{} is neither true nor false: compare it with something", named(&type_)));
                }
            }
        }
        (operators::CONDITIONAL, parts) => {
            for part in parts {
                type_of(part)?;
            }
        }
        (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => {
            if let (Some(one), Some(other)) = (type_of(one)?, type_of(other)?)
                && !is_comparable(&one, &other)
            {
                let (one, other) = (named(&one), named(&other));
                return Err(format!("{one} is compared with {other}: they are never equal"));
            }
        }
        _ => _ = type_of(expression)?,
    }
    Ok(())
}

fn is_comparable(one: &CelType, other: &CelType) -> bool {
    let is_number = |type_: &CelType| matches!(type_, CelType::Int | CelType::UInt | CelType::Float);
    (is_number(one) && is_number(other)) || named(one) == named(other)
}

/// A type in words.
pub(super) fn named(type_: &CelType) -> &'static str {
    match type_ {
        CelType::Int | CelType::UInt => "a whole number",
        CelType::Float => "a number",
        CelType::String => "text",
        CelType::Bool => "true or false",
        CelType::List => "a list",
        CelType::Map => "a map",
        CelType::Null => "null",
        _ => "of another type",
    }
}

/// An error that comes from types, and not from the values that were taken for a sample.
pub(super) fn tell_type_error(error: &ExecutionError) -> Result<(), String> {
    match error {
        ExecutionError::DivisionByZero(_)
        | ExecutionError::RemainderByZero(_)
        | ExecutionError::Overflow(..)
        | ExecutionError::IndexOutOfBounds(_)
        | ExecutionError::NoSuchKey(_)
        | ExecutionError::DuplicateKey(_)
        | ExecutionError::FunctionError { .. } => Ok(()),
        error => Err(format!("its types do not fit: {error}")),
    }
}
