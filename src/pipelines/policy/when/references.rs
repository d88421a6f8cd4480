//! What an expression refers to, looked up in its syntax tree.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::Scope;
use super::values::Used;
use crate::api::StepState;
use crate::pipelines::policy::parameters::listed;

/// States of a step that has ended; no other is ever seen in an expression.
const ENDED: [StepState; 4] = [StepState::Succeeded, StepState::Failed, StepState::Skipped, StepState::Cancelled];

/// The names after the variable that a chain of selections begins with: `steps.a["b"]` gives steps, a and b.
fn names(expression: &Expr) -> Option<Vec<&str>> {
    match expression {
        Expr::Ident(name) => Some(vec![name]),
        Expr::Select(select) => {
            let mut names = names(&select.operand.expr)?;
            names.push(&select.field);
            Some(names)
        }
        Expr::Call(CallExpr { func_name, target: None, args }) if func_name == operators::INDEX => {
            let [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] = args.as_slice() else {
                return None;
            };
            let mut names = names(&operand.expr)?;
            names.push(name.inner());
            Some(names)
        }
        _ => None,
    }
}

/// Which texts a step's state may be compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum States {
    /// Those that there are.
    Known,
    /// Any, as in records of operators that did not look at them.
    Any,
}

/// Looks up every reference, and takes note of it.
///
/// # Errors
/// What is wrong with the first that leads nowhere.
pub(super) fn check_references(
    expression: &IdedExpr,
    scope: &Scope,
    used: &mut Used,
    states: States,
) -> Result<(), String> {
    if let Some(names) = names(&expression.expr) {
        return check_path(&names, scope, used);
    }
    let mut check = |part: &IdedExpr| check_references(part, scope, used, states);
    match &expression.expr {
        Expr::Comprehension(_) => {
            Err("loops (all, exists, exists_one, map, filter) are not allowed: remove it".to_owned())
        }
        Expr::Call(call) if call.func_name == "matches" => Err(
            "regular expressions are not allowed: use ==, in [...], startsWith, endsWith or contains; a parameter can have a \
             pattern of its own"
                .to_owned(),
        ),
        Expr::Call(call) => {
            if states == States::Known {
                check_states(call)?;
            }
            call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(check)
        }
        Expr::Select(select) => check(&select.operand),
        Expr::List(list) => list.elements.iter().try_for_each(check),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => check(&entry.key).and_then(|()| check(&entry.value)),
            EntryExpr::StructField(_) => Ok(()),
        }),
        Expr::Struct(_) => Err("messages are not allowed: use params and steps only".to_owned()),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Ok(()),
    }
}

/// Checks that a step's state is compared with one that there is: any other text would never be equal.
fn check_states(call: &CallExpr) -> Result<(), String> {
    let [one, other] = call.args.as_slice() else { return Ok(()) };
    match call.func_name.as_str() {
        operators::EQUALS | operators::NOT_EQUALS => check_state(one, other).and_then(|()| check_state(other, one)),
        operators::IN => match &other.expr {
            Expr::List(list) => list.elements.iter().try_for_each(|element| check_state(one, element)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_state(state: &IdedExpr, text: &IdedExpr) -> Result<(), String> {
    let (Some(names), Expr::Literal(LiteralValue::String(text))) = (names(&state.expr), &text.expr) else {
        return Ok(());
    };
    let text: &str = text.inner();
    if !matches!(names.as_slice(), ["steps", _, "state"]) || ENDED.iter().any(|state| state.as_str() == text) {
        return Ok(());
    }
    let states = ENDED.map(|state| format!("'{}'", state.as_str())).join(", ");
    Err(format!("{} is never '{text}': compare it with one of {states}", names.join(".")))
}

/// Looks a reference up, and takes note of it.
fn check_path(names: &[&str], scope: &Scope, used: &mut Used) -> Result<(), String> {
    let ended = |step: &str| {
        scope.step(step).ok_or_else(|| {
            let known = || scope.steps.keys().filter(|name| (scope.has_ended)(name));
            let hint = in_brackets("steps", step, known());
            format!(
                "steps.{step}: no such step has ended by then: name it in dependsOn; {}{hint}",
                one_of("steps that have", known())
            )
        })
    };
    match names {
        ["params", name] => {
            let type_ = scope.parameters.get(*name).ok_or_else(|| {
                let known = || scope.parameters.keys();
                let hint = in_brackets("params", name, known());
                format!("params.{name}: there is no such parameter: {}{hint}", one_of("parameters", known()))
            })?;
            used.parameters.insert((*name).to_owned(), *type_);
        }
        ["steps", step, "state"] => {
            ended(step)?;
            used.steps.entry((*step).to_owned()).or_default();
        }
        ["steps", step, "outputs", output] => {
            let outputs = ended(step)?;
            let type_ = outputs.get(*output).ok_or_else(|| {
                let known = one_of("outputs", outputs.keys());
                format!("steps.{step}.outputs.{output}: the step declares no such output: {known}")
            })?;
            used.steps.entry((*step).to_owned()).or_default().insert((*output).to_owned(), *type_);
        }
        ["params" | "steps", ..] => {
            let written = names.join(".");
            let hint = match names {
                ["steps", step] => in_brackets("steps", step, scope.steps.keys()),
                _ => String::new(),
            };
            return Err(format!("{written}: write params.NAME, steps.STEP.outputs.NAME or steps.STEP.state{hint}"));
        }
        [other, ..] => return Err(format!("{other}: there is no such variable: use params and steps")),
        [] => {}
    }
    Ok(())
}

/// What to write where a name with a hyphen was taken for a subtraction.
fn in_brackets<'a>(variable: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let begun = format!("{name}-");
    let meant = known.into_iter().find(|known| known.starts_with(&begun));
    meant.map(|meant| format!("; a name with '-' stands in brackets: {variable}['{meant}']")).unwrap_or_default()
}

/// Names that there are, as many as help.
fn one_of<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { format!("there are no {what}") } else { format!("there are {}", listed(names.into_iter())) }
}
