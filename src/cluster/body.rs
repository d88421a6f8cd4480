//! What a create sends.
//!
//! A plan may make a hundred pods from one large template. As trees they would take gigabytes, so an object is text as soon as
//! it is built, and one that is made from a template is built only when it is sent.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value;

/// An object that is yet to be created.
#[derive(Clone, Debug)]
pub enum Body {
    /// The object as JSON text.
    Text(Arc<str>),
    /// It is built when it is sent.
    Later(Arc<dyn Blueprint>),
}

/// All that it takes to build an object: the same object each time.
pub trait Blueprint: Debug + Send + Sync {
    /// Builds it.
    fn build(&self) -> Value;

    /// About how many bytes of JSON text it will be.
    fn length(&self) -> usize;
}

impl Body {
    /// The object as JSON text.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Body::Text(text) => Cow::Borrowed(text),
            Body::Later(blueprint) => Cow::Owned(blueprint.build().to_string()),
        }
    }

    /// About how many bytes of JSON text it is.
    pub fn length(&self) -> usize {
        match self {
            Body::Text(text) => text.len(),
            Body::Later(blueprint) => blueprint.length(),
        }
    }

    /// The object, for tests.
    #[cfg(test)]
    pub fn object(&self) -> Value {
        serde_json::from_str(&self.text()).expect("a body is JSON")
    }
}

impl From<Value> for Body {
    fn from(object: Value) -> Self {
        Body::Text(object.to_string().into())
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
