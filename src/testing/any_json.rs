//! JSON of any shape, for property tests.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Values nested up to `depth` levels, of strings that `text` makes and objects with the keys that `names` makes.
pub(crate) fn any_json(
    depth: u32,
    text: impl Strategy<Value = String> + 'static,
    names: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 8 * depth, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}
