//! Which build this is: the version, and the git commit where the build was told of it.

use std::sync::LazyLock;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The git commit, with `-dirty` behind it when the tree had changes, or nothing in builds for development.
///
/// It is a variable of the build and not asked of git by a build script: otherwise every commit would compile the
/// operator anew for everybody who tests it.
pub const COMMIT: Option<&str> = match option_env!("TRAINYARD_COMMIT") {
    Some(commit) if !commit.is_empty() => Some(commit),
    _ => None,
};

/// Both, for people: `0.1.0 (5d55513)`.
pub fn described() -> &'static str {
    static DESCRIBED: LazyLock<String> = LazyLock::new(|| describe(VERSION, COMMIT));
    &DESCRIBED
}

fn describe(version: &str, commit: Option<&str>) -> String {
    commit.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_told_where_it_is_known() {
        assert_eq!(describe("0.1.0", None), "0.1.0");
        assert_eq!(describe("0.1.0", Some("5d55513-dirty")), "0.1.0 (5d55513-dirty)");
        assert!(described().starts_with(VERSION));
    }
}
