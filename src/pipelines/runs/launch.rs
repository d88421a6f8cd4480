//! How a run recognises the pods and TrainingJobs that its operator made for its steps.
//!
//! Whoever may create objects in a namespace can make one under the name, with the labels and with the ownerReference of a
//! step's child. So each child carries a token that nobody can know before it exists, and the status that puts the attempt on
//! record has the token's hash. The token follows from a secret that this process alone has: after a restart a child that is
//! there is still recognised by the hash, and for one that is not there a new hash is put on record first.

use std::fmt;

use crate::names::short_hash;

/// Characters of tokens and of their hashes; each has five bits.
const LENGTH: usize = 26;

/// What the tokens of one run follow from.
pub struct Secret([u8; 16]);

impl Default for Secret {
    fn default() -> Self {
        Secret(rand::random())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The token of a child of that name.
    pub fn token(&self, child: &str) -> String {
        short_hash(&[&self.0, child.as_bytes()].concat(), LENGTH)
    }

    /// What the status says of that child's token.
    pub fn on_record(&self, child: &str) -> String {
        hash(&self.token(child))
    }
}

fn hash(token: &str) -> String {
    short_hash(token.as_bytes(), LENGTH)
}

/// Whether a child with this token is the one that is on record. Earlier versions put nothing on record: for their
/// children the name decides.
pub fn is_ours(on_record: Option<&str>, token: &str) -> bool {
    on_record.is_none_or(|on_record| hash(token) == on_record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_of_this_child_is_on_record() {
        let (one, other) = (Secret::default(), Secret::default());
        let on_record = one.on_record("r-a-1");
        assert!(is_ours(Some(&on_record), &one.token("r-a-1")));
        for forged in [one.token("r-a-2"), other.token("r-a-1"), on_record.clone(), String::new()] {
            assert!(!is_ours(Some(&on_record), &forged), "{forged}");
        }
        assert!(is_ours(None, ""), "a child of an earlier release");
    }
}
