//! Runs of real pods: what programs get, and what they leave to each other.

use anyhow::{Result, ensure};
use e2e::images::Image;
use serde_json::{Value, json};

use crate::manifest::Run;
use crate::objects::{CLAIMS, PODS, REVISIONS, RUNS, text};
use crate::space::Space;

/// A value that would do harm anywhere but as data.
const ODD: &str = "it's \"odd\": {a: [b]}\n- $(params.text) $(TRAINYARD_RUN) $$(HOME) ${x} $(date) %s \\ é";

/// A step that runs a line of Python in the image that has nothing else, under Pod Security `restricted`.
fn python(space: &Space, name: &str, depends_on: &[&str], code: &str, arguments: &[&str]) -> Value {
    let mut spec = space.placement();
    spec["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}});
    let mut command = vec!["python3", "-c", code];
    command.extend(arguments);
    spec["containers"] = json!([{
        "name": "main",
        "image": space.image(Image::Base),
        "command": command,
        "env": [{"name": "TEXT", "value": arguments.first()}],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    }]);
    json!({"name": name, "dependsOn": depends_on, "outputs": [{"name": "text"}], "run": {"spec": spec}})
}

pub(crate) async fn values_and_files_reach_programs_as_they_are(space: Space) -> Result<()> {
    let write = "import json, os, sys\n\
                 assert sys.argv[1] == os.environ['TEXT'], os.environ['TEXT']\n\
                 open('/mnt/files/text', 'w').write(sys.argv[1])\n\
                 json.dump({'text': sys.argv[1]}, open('/dev/termination-log', 'w'))";
    let read = "import json, os, sys\n\
                text = open('/mnt/files/text').read()\n\
                assert text == sys.argv[1] == os.environ['TEXT'], (text, sys.argv)\n\
                json.dump({'text': text}, open('/dev/termination-log', 'w'))";
    let steps = [
        python(&space, "write", &[], write, &["$(params.text)"]),
        python(&space, "read", &["write"], read, &["$(steps.write.outputs.text)"]),
    ];
    let run = Run::new("real", &steps)
        .set("spec.pipeline.parameters", json!([{"name": "text"}]))
        .set("spec.pipeline.files", json!({"size": "64Mi"}))
        .argument("text", ODD);
    space.submit(&run).await?;
    let run = space.until_run("real", "Succeeded").await?;
    for step in ["write", "read"] {
        let told = text(&run, &format!("/status/steps/{step}/outputs/text"));
        ensure!(told == ODD, "{step} was given {told:?}");
    }
    space.objects.delete(RUNS, "real").await?;
    space.until_none_of(&[RUNS, PODS, CLAIMS, REVISIONS], "").await
}
