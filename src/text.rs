//! Small helpers for text.

use serde_json::error::Category;

/// The longest prefix of at most `bytes` bytes that ends between two characters.
pub(crate) fn shorten(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Why a text could not be parsed, without the parser's own words: they quote the text, and what stands in somebody's
/// object is nothing for our log or for the status of another.
pub(crate) fn parse_failure(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Data => "not of the expected form",
        Category::Eof => "incomplete JSON",
        Category::Syntax | Category::Io => "invalid JSON",
    };
    match (error.line(), error.column()) {
        (0, _) => what.to_owned(),
        (line, column) => format!("{what} at line {line}, column {column}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parse_failure_quotes_nothing() {
        let parse = |text: &str| parse_failure(&serde_json::from_str::<Vec<u8>>(text).unwrap_err());
        assert_eq!(parse(r#"["canary"]"#), "not of the expected form at line 1, column 9");
        assert_eq!(parse("[1,"), "incomplete JSON at line 1, column 3");
        assert_eq!(parse("[canary]"), "invalid JSON at line 1, column 2");
        let tree = serde_json::from_value::<Vec<u8>>(serde_json::json!(["canary"])).unwrap_err();
        assert_eq!(parse_failure(&tree), "not of the expected form");
    }

    #[test]
    fn shortening_never_splits_a_character() {
        assert_eq!(shorten("aé", 2), "a");
        assert_eq!(shorten("aé", 3), "aé");
    }
}
