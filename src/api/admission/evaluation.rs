//! Policies evaluated without an apiserver: conditions, variables and rules, in its order.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use cel::extractors::This;
use cel::{Context, Env, Program, Value as CelValue, extensions};
use serde_json::{Value, json};

/// A request for an admission policy to judge.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub(super) user: &'a str,
    pub(super) namespace: &'a str,
    /// With its subresource, as RBAC names it.
    pub(super) resource: &'a str,
    /// Null when it is created.
    pub(super) old: &'a Value,
    /// Null when it is deleted.
    pub(super) new: &'a Value,
    /// What the authorizer grants, such as `create apps/deployments in ml` or `bypass group/resource name`.
    pub(super) rights: &'a [&'a str],
}

/// A request in the namespace `ml` of somebody without any rights that are asked for.
pub(super) fn request<'a>(user: &'a str, resource: &'a str, old: &'a Value, new: &'a Value) -> Request<'a> {
    Request { user, namespace: "ml", resource, old, new, rights: &[] }
}

/// What a policy says to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does not look at it.
    Skipped,
    /// No rule refuses it.
    Allowed,
    /// By these rules.
    Refused(Vec<Refusal>),
}

/// A rule that refuses a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Which of the policy's, counted from 0.
    pub(super) rule: usize,
    /// What the user is told.
    pub(super) message: String,
}

impl Verdict {
    /// The first message, empty if it is not refused.
    pub(super) fn message(&self) -> &str {
        match self {
            Verdict::Refused(refusals) => &refusals[0].message,
            Verdict::Skipped | Verdict::Allowed => "",
        }
    }
}

/// CEL as policies are written in: with optional fields, and functions on strings.
fn environment() -> Arc<Env> {
    thread_local! {
        static ENVIRONMENT: Arc<Env> = {
            let mut env = Env::stdlib();
            env.add_extension(extensions::strings).unwrap();
            Arc::new(env)
        };
    }
    ENVIRONMENT.with(Arc::clone)
}

/// Every expression of a policy.
pub(super) fn expressions(policy: &Value) -> Vec<&str> {
    let spec = &policy["spec"];
    let entries = ["matchConditions", "variables", "validations"].into_iter().flat_map(|list| spec[list].as_array());
    let fields = entries.flatten().flat_map(|entry| ["expression", "messageExpression"].map(|field| &entry[field]));
    fields.filter_map(Value::as_str).collect()
}

/// What a policy says to a request, whatever resources it is for.
pub(super) fn judge(policy: &Value, request: &Request) -> Verdict {
    let list = |field: &str| policy["spec"][field].as_array().cloned().unwrap_or_default();
    let mut context = context(request);
    if !list("matchConditions").iter().all(|condition| holds(&context, condition)) {
        return Verdict::Skipped;
    }
    let mut variables = HashMap::new();
    for variable in list("variables") {
        // The apiserver evaluates a variable where it is used: one that has no value here must not be.
        if let Ok(value) = evaluate(&context, &variable["expression"]) {
            variables.insert(variable["name"].as_str().unwrap().to_owned(), value);
            context.add_variable_from_value("variables", variables.clone());
        }
    }
    let refusal = |(rule, validation): (usize, Value)| {
        let told = evaluate(&context, &validation["messageExpression"]);
        let message = match told {
            Ok(CelValue::String(told)) => told.to_string(),
            _ => validation["message"].as_str().unwrap_or_default().to_owned(),
        };
        Refusal { rule, message }
    };
    let rules = list("validations").into_iter().enumerate();
    let refusals: Vec<_> = rules.filter(|(_, rule)| !holds(&context, rule)).map(refusal).collect();
    if refusals.is_empty() { Verdict::Allowed } else { Verdict::Refused(refusals) }
}

fn evaluate(context: &Context, expression: &Value) -> Result<CelValue, String> {
    let text = expression.as_str().ok_or("no expression")?;
    program(text).execute(context).map_err(|error| error.to_string())
}

/// Each expression is compiled once: tables of cases ask for the same ones.
fn program(text: &str) -> Rc<Program> {
    thread_local! {
        static PROGRAMS: RefCell<HashMap<String, Rc<Program>>> = RefCell::default();
    }
    let compile = || environment().compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    PROGRAMS.with_borrow_mut(|all| all.entry(text.to_owned()).or_insert_with(|| Rc::new(compile())).clone())
}

fn holds(context: &Context, entry: &Value) -> bool {
    match evaluate(context, &entry["expression"]) {
        Ok(CelValue::Bool(holds)) => holds,
        other => panic!("{}: {other:?}", entry["expression"]),
    }
}

fn context<'a>(request: &Request) -> Context<'a, 'a> {
    let Request { user, namespace, resource, old, new, rights } = request.clone();
    let mut context = Context::with_env(environment());
    let operation = match (old, new) {
        (Value::Null, _) => "CREATE",
        (_, Value::Null) => "DELETE",
        _ => "UPDATE",
    };
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let mut facts = json!({
        "operation": operation, "namespace": namespace,
        "resource": {"resource": resource}, "userInfo": {"username": user},
    });
    // The apiserver leaves out what is empty, so an expression has to ask for it first.
    if !subresource.is_empty() {
        facts["subResource"] = subresource.into();
    }
    context.add_variable("request", facts).unwrap();
    context.add_variable("object", new.clone()).unwrap();
    context.add_variable("oldObject", old.clone()).unwrap();
    authorizer(&mut context, rights);
    context
}

/// The apiserver's authorizer: each step of a question adds to its text, and the text is looked up.
fn authorizer(context: &mut Context, rights: &[&str]) {
    type Text = Arc<String>;
    let rights: BTreeSet<String> = rights.iter().map(|right| (*right).to_owned()).collect();
    context.add_variable("authorizer", "").unwrap();
    context.add_function("group", |This(_): This<Text>, group: Text| format!("{group}/")).unwrap();
    context.add_function("resource", |This(so_far): This<Text>, name: Text| format!("{so_far}{name}")).unwrap();
    context.add_function("namespace", |This(so_far): This<Text>, name: Text| format!("{so_far} in {name}")).unwrap();
    context.add_function("name", |This(so_far): This<Text>, name: Text| format!("{so_far} {name}")).unwrap();
    context.add_function("check", |This(so_far): This<Text>, verb: Text| format!("{verb} {so_far}")).unwrap();
    context.add_function("allowed", move |This(question): This<Text>| rights.contains(question.as_str())).unwrap();
}
