//! References in strings of embedded specs: `$(params.x)`, `$(steps.y.outputs.z)`, `$(run.name)`.
//!
//! The form is Kubernetes' own for variables in a container's command, and leaves alone what the kubelet expands: `$(RANK)` is
//! none of ours, and `$$(params.x)` says that no reference is meant, as `$$(RANK)` does to the kubelet.

use std::fmt;

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// `params.NAME`: a parameter of the pipeline, as given to this run.
    Parameter(String),
    /// `steps.STEP.outputs.OUTPUT`: what an earlier step reported.
    Output {
        /// The step.
        step: String,
        /// The output that it declares.
        output: String,
    },
    /// `run.name`: the PipelineRun's own name.
    RunName,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Parameter(name) => write!(f, "$(params.{name})"),
            Reference::Output { step, output } => write!(f, "$(steps.{step}.outputs.{output})"),
            Reference::RunName => f.write_str("$(run.name)"),
        }
    }
}

/// A piece of a string; the pieces of one string, joined, are the string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text that stays as it is.
    Text(&'a str),
    /// A reference, to be replaced with its value.
    Reference(Reference),
    /// `$$(params.x)`: the text with both its dollar signs.
    Escaped(&'a str),
    /// It begins as a reference of ours and names nothing, as `$(params.)` or `$(steps.a.output.b)` do.
    Malformed(&'a str),
}

/// Takes a string apart, from left to right as the kubelet does: a pair of dollar signs never begins a reference.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(dollar) = text[at..].find('$').map(|offset| at + offset) {
        let rest = &text[dollar..];
        let escaped = rest.starts_with("$$");
        let Some(inner) = ours(&rest[usize::from(escaped)..]) else {
            at = dollar + 1 + usize::from(escaped);
            continue;
        };
        let end = dollar + usize::from(escaped) + "$()".len() + inner.len();
        if plain < dollar {
            pieces.push(Piece::Text(&text[plain..dollar]));
        }
        pieces.push(match (escaped, parse(inner)) {
            (true, _) => Piece::Escaped(&text[dollar..end]),
            (false, Some(reference)) => Piece::Reference(reference),
            (false, None) => Piece::Malformed(&text[dollar..end]),
        });
        (plain, at) = (end, end);
    }
    if plain < text.len() {
        pieces.push(Piece::Text(&text[plain..]));
    }
    pieces
}

/// What is between the brackets, where it begins as our references do.
fn ours(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("$(")?;
    let inner = &inner[..inner.find(')')?];
    ["params.", "steps.", "run."].iter().any(|prefix| inner.starts_with(prefix)).then_some(inner)
}

fn parse(inner: &str) -> Option<Reference> {
    let named = |name: &str| is_name(name).then(|| name.to_owned());
    match inner.split('.').collect::<Vec<_>>()[..] {
        ["params", name] => named(name).map(Reference::Parameter),
        ["steps", step, "outputs", output] => Some(Reference::Output { step: named(step)?, output: named(output)? }),
        ["run", "name"] => Some(Reference::RunName),
        _ => None,
    }
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

    fn parameter(name: &str) -> Piece<'static> {
        Piece::Reference(Reference::Parameter(name.to_owned()))
    }

    #[test]
    fn a_string_is_taken_apart() {
        let output = Reference::Output { step: "train".to_owned(), output: "accuracy".to_owned() };
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
            ("é$(params.x)ü", vec![Piece::Text("é"), parameter("x"), Piece::Text("ü")]),
        ] {
            assert_eq!(pieces(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_string_are_the_string(text in r"([$()]|params\.x|steps\.a\.outputs\.b|run\.name|.){0,12}") {
            let joined: String = pieces(&text)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) | Piece::Escaped(text) | Piece::Malformed(text) => text.to_owned(),
                    Piece::Reference(reference) => reference.to_string(),
                })
                .collect();
            prop_assert_eq!(joined, text);
        }
    }
}
