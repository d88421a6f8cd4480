//! What an expression refers to, looked up in its syntax tree.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::Scope;
use super::values::Used;

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

/// Looks up every reference, and takes note of it.
///
/// # Errors
/// What is wrong with the first that leads nowhere.
pub(super) fn check_references(expression: &IdedExpr, scope: &Scope, used: &mut Used) -> Result<(), String> {
    if let Some(names) = names(&expression.expr) {
        return check_path(&names, scope, used);
    }
    let mut check = |part: &IdedExpr| check_references(part, scope, used);
    match &expression.expr {
        Expr::Comprehension(_) => {
            Err("loops (all, exists, exists_one, map, filter) are not allowed: remove it".to_owned())
        }
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(check),
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

/// Looks a reference up, and takes note of it.
fn check_path(names: &[&str], scope: &Scope, used: &mut Used) -> Result<(), String> {
    let ended = |step: &str| {
        scope.step(step).ok_or_else(|| {
            let known = || scope.steps.keys().filter(|name| (scope.has_ended)(name));
            let hint = in_brackets("steps", step, known());
            format!("steps.{step}: no such step has ended by then: name it in dependsOn; {}{hint}", one_of(known()))
        })
    };
    match names {
        ["params", name] => {
            let type_ = scope.parameters.get(*name).ok_or_else(|| {
                let known = || scope.parameters.keys();
                let hint = in_brackets("params", name, known());
                format!("params.{name}: there is no such parameter: {}{hint}", one_of(known()))
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
                let known = one_of(outputs.keys());
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
fn one_of<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.take(10).map(String::as_str).collect();
    if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) }
}
