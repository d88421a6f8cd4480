//! Values of what an expression refers to, as CEL has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Value as CelValue};
use serde_json::Value;

use super::{Facts, Types};
use crate::api::ValueType;
use crate::pipelines::policy::parameters::sample_of;

/// CEL's standard functions, looked up once.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What an expression refers to, and the types of that. Only this is looked up for it: a run may have hundreds of steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    pub(super) parameters: Types,
    pub(super) steps: BTreeMap<String, Types>,
}

impl Used {
    /// A context in which everything that is referred to has a value of its type.
    pub(super) fn sample(&self) -> Context<'static, 'static> {
        let sample = |types: &Types| -> BTreeMap<String, Value> {
            types.iter().map(|(name, type_)| (name.clone(), sample_of(*type_))).collect()
        };
        let parameters = sample(&self.parameters);
        let outputs: BTreeMap<String, _> =
            self.steps.iter().map(|(step, outputs)| (step.clone(), sample(outputs))).collect();
        let step = |name: &str| outputs.get(name).map(|outputs| ("Succeeded", outputs));
        self.context(&Facts { parameters: &parameters, step: &step })
    }

    /// A context with what is referred to.
    pub(super) fn context(&self, facts: &Facts) -> Context<'static, 'static> {
        let typed = |types: &Types, values: &BTreeMap<String, Value>| -> BTreeMap<String, CelValue> {
            let value =
                |(name, type_): (&String, &ValueType)| Some((name.clone(), cel_value(*type_, values.get(name)?)));
            types.iter().filter_map(value).collect()
        };
        let steps = self.steps.iter().filter_map(|(name, types)| {
            let (state, outputs) = (facts.step)(name)?;
            let state = CelValue::String(state.to_owned().into());
            let fields = [("state".to_owned(), state), ("outputs".to_owned(), as_map(typed(types, outputs)))];
            Some((name.clone(), as_map(fields.into())))
        });
        let mut context = Context::with_env(STANDARD.clone());
        context.add_variable_from_value("params", as_map(typed(&self.parameters, facts.parameters)));
        context.add_variable_from_value("steps", as_map(steps.collect()));
        context
    }
}

fn as_map(fields: BTreeMap<String, CelValue>) -> CelValue {
    fields.into_iter().collect::<HashMap<String, CelValue>>().into()
}

/// A number is a double even where it was written without a point, so that its type is what is declared.
fn cel_value(type_: ValueType, value: &Value) -> CelValue {
    match (type_, value) {
        (ValueType::Number, Value::Number(number)) => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        (_, Value::Number(number)) => match number.as_i64() {
            Some(whole) => CelValue::Int(whole),
            None => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        (_, Value::String(text)) => CelValue::String(text.clone().into()),
        (_, Value::Bool(truth)) => CelValue::Bool(*truth),
        _ => CelValue::Null,
    }
}
