//! References in strings of embedded specs: `$(params.x)`, `$(steps.y.outputs.z)`, `$(run.name)`.
//!
//! The form is Kubernetes' own for variables in a container's command, and leaves alone what the kubelet expands: `$(RANK)` is
//! none of ours, and `$$(params.x)` says that no reference is meant, as `$$(RANK)` does to the kubelet.

use std::fmt;

/// Longest text between the brackets that is looked at, in bytes: two names of 63 characters with what is around them. Without
/// a limit, a text of many open brackets would be searched to its end for each of them.
const LONGEST: usize = 256;

/// What a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference<'a> {
    /// `params.NAME`: a parameter of the pipeline, as given to this run.
    Parameter(&'a str),
    /// `steps.STEP.outputs.OUTPUT`: what an earlier step reported.
    Output {
        /// The step.
        step: &'a str,
        /// The output that it declares.
        output: &'a str,
    },
    /// `run.name`: the PipelineRun's own name.
    RunName,
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Parameter(name) => write!(f, "$(params.{name})"),
            Reference::Output { step, output } => write!(f, "$(steps.{step}.outputs.{output})"),
            Reference::RunName => f.write_str("$(run.name)"),
        }
    }
}

/// A piece of a string; the pieces of one string, joined, are the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text that stays as it is.
    Text(&'a str),
    /// A reference, to be replaced with its value.
    Reference(Reference<'a>),
    /// `$$(params.x)`: the text with both its dollar signs.
    Escaped(&'a str),
    /// It begins as a reference of ours and names nothing, as `$(params.)` or `$(steps.a.output.b)` do, or is one of another
    /// system, as `$(tasks.a.results.b)`.
    Malformed(&'a str),
}

/// Takes a string apart, from left to right as the kubelet does: a pair of dollar signs never begins a reference.
pub fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = match first_of_ours(rest) {
            _ if rest.is_empty() => return None,
            Some((0, end, piece)) => (piece, &rest[end..]),
            Some((begin, ..)) => (Piece::Text(&rest[..begin]), &rest[begin..]),
            None => (Piece::Text(rest), ""),
        };
        rest = after;
        Some(piece)
    })
}

/// The reference of a string that is nothing else.
pub fn only_reference(text: &str) -> Option<Reference<'_>> {
    match first_of_ours(text)? {
        (0, end, Piece::Reference(reference)) if end == text.len() => Some(reference),
        _ => None,
    }
}

/// The first piece that is more than text, with its begin and end.
fn first_of_ours(text: &str) -> Option<(usize, usize, Piece<'_>)> {
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|offset| at + offset) {
        let rest = &text[dollar..];
        let escaped = rest.starts_with("$$");
        let Some(inner) = ours(&rest[usize::from(escaped)..]) else {
            at = dollar + 1 + usize::from(escaped);
            continue;
        };
        let end = dollar + usize::from(escaped) + "$()".len() + inner.len();
        let piece = match (escaped, parse(inner)) {
            (true, _) => Piece::Escaped(&text[dollar..end]),
            (false, Some(reference)) => Piece::Reference(reference),
            (false, None) => Piece::Malformed(&text[dollar..end]),
        };
        return Some((dollar, end, piece));
    }
    None
}

/// What is between the brackets, where it begins as our references do, or as those of other systems.
fn ours(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("$(")?;
    if !["params.", "steps.", "run.", "tasks."].iter().any(|prefix| inner.starts_with(prefix)) {
        return None;
    }
    let inner = &inner[..inner.floor_char_boundary(LONGEST)];
    Some(&inner[..inner.find(')')?])
}

fn parse(inner: &str) -> Option<Reference<'_>> {
    let mut parts = inner.split('.');
    let reference = match parts.next()? {
        "params" => Reference::Parameter(parts.next().filter(|name| is_name(name))?),
        "steps" => {
            let step = parts.next().filter(|name| is_name(name))?;
            parts.next().filter(|word| *word == "outputs")?;
            Reference::Output { step, output: parts.next().filter(|name| is_name(name))? }
        }
        "run" => parts.next().filter(|word| *word == "name").map(|_| Reference::RunName)?,
        _ => return None,
    };
    parts.next().is_none().then_some(reference)
}

/// Text in another system's form, `${params.x}` or `{{steps.x...}}`, that names what the pipeline has: what is written, and the
/// form that is meant. Only such text: `{{ }}` and `${ }` may be for a program to read.
pub fn in_another_form(text: &str, names_ours: impl Fn(Reference<'_>) -> bool) -> Option<(&str, String)> {
    let mut at = 0;
    while let Some(brace) = text[at..].find('{').map(|offset| at + offset) {
        at = brace + 1;
        let doubled = text[brace..].starts_with("{{");
        let begin = match text[..brace].ends_with('$') {
            true if !doubled => brace - 1,
            false if doubled => brace,
            _ => continue,
        };
        let inner = &text[brace + 1 + usize::from(doubled)..];
        let inner = &inner[..inner.floor_char_boundary(LONGEST)];
        let Some(end) = inner.find('}') else { continue };
        let inner = &inner[..end];
        let meant = inner.trim().trim_start_matches("inputs.").replacen("outputs.parameters.", "outputs.", 1).replacen(
            "parameters.",
            "params.",
            1,
        );
        if parse(&meant).is_some_and(&names_ours) {
            let closing = 1 + usize::from(doubled);
            let end = brace + 1 + usize::from(doubled) + inner.len();
            let written = &text[begin..(end + closing).min(text.len())];
            return Some((written, format!("$({meant})")));
        }
    }
    None
}

/// Whether parameters, steps and outputs may be named so: a letter first, then letters, digits, `-` and `_`.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parameter(name: &str) -> Piece<'_> {
        Piece::Reference(Reference::Parameter(name))
    }

    #[test]
    fn a_string_is_taken_apart() {
        let output = Reference::Output { step: "train", output: "accuracy" };
        for (text, expected) in [
            ("", vec![]),
            ("plain", vec![Piece::Text("plain")]),
            ("$(params.x)", vec![parameter("x")]),
            ("a$(params.x)b", vec![Piece::Text("a"), parameter("x"), Piece::Text("b")]),
            ("$(params.x)$(params.y-2)", vec![parameter("x"), parameter("y-2")]),
            ("$(steps.train.outputs.accuracy)", vec![Piece::Reference(output)]),
            ("$(run.name)", vec![Piece::Reference(Reference::RunName)]),
            // The kubelet's, the shell's and nobody's.
            ("$(RANK) ${x} $HOME $(date) $", vec![Piece::Text("$(RANK) ${x} $HOME $(date) $")]),
            ("$(params.x", vec![Piece::Text("$(params.x")]),
            ("$$(params.x)", vec![Piece::Escaped("$$(params.x)")]),
            ("$$$(params.x)", vec![Piece::Text("$$"), parameter("x")]),
            ("$$$$(params.x)", vec![Piece::Text("$$"), Piece::Escaped("$$(params.x)")]),
            ("$(params.)", vec![Piece::Malformed("$(params.)")]),
            ("$(params.a b)", vec![Piece::Malformed("$(params.a b)")]),
            ("$(steps.a.output.b)", vec![Piece::Malformed("$(steps.a.output.b)")]),
            ("$(run.uid)", vec![Piece::Malformed("$(run.uid)")]),
            ("$(tasks.a.results.b)", vec![Piece::Malformed("$(tasks.a.results.b)")]),
            ("é$(params.x)ü", vec![Piece::Text("é"), parameter("x"), Piece::Text("ü")]),
        ] {
            assert_eq!(pieces(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_reference_is_searched_within_its_limit() {
        let open = "$(params.".repeat(10_000) + ")";
        // The last one alone has an end that is near enough.
        let found: Vec<_> = pieces(&open).filter(|piece| !matches!(piece, Piece::Text(_))).collect();
        assert!(matches!(found[..], [Piece::Malformed(text)] if text.len() < 300), "{}", found.len());
        let long = format!("$(params.{})", "x".repeat(300));
        assert_eq!(pieces(&long).collect::<Vec<_>>(), [Piece::Text(&long)]);
    }

    #[test]
    fn other_forms_are_recognised_where_they_name_what_is_there() {
        let known = |reference: Reference<'_>| match reference {
            Reference::Parameter(name) => name == "x",
            Reference::Output { step, .. } => step == "a",
            Reference::RunName => true,
        };
        for (text, expected) in [
            ("a ${params.x} b", Some(("${params.x}", "$(params.x)"))),
            ("{{params.x}}", Some(("{{params.x}}", "$(params.x)"))),
            ("{{ inputs.parameters.x }}", Some(("{{ inputs.parameters.x }}", "$(params.x)"))),
            ("{{steps.a.outputs.b}}", Some(("{{steps.a.outputs.b}}", "$(steps.a.outputs.b)"))),
            ("${params.y} {{params.y}} {params.x} {{x}} $${x}", None),
            ("{{params.x", None),
            ("é{{é}}{{{{params.x}}", Some(("{{params.x}}", "$(params.x)"))),
        ] {
            let found = in_another_form(text, known);
            let found = found.as_ref().map(|(written, meant)| (*written, meant.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_string_are_the_string(text in r"([$()]|params\.x|steps\.a\.outputs\.b|run\.name|.){0,12}") {
            let joined: String = pieces(&text)
                .map(|piece| match piece {
                    Piece::Text(text) | Piece::Escaped(text) | Piece::Malformed(text) => text.to_owned(),
                    Piece::Reference(reference) => reference.to_string(),
                })
                .collect();
            prop_assert_eq!(joined, text);
        }
    }
}
