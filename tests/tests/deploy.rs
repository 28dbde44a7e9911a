//! Every command line and config in `deploy/` is one that the programs take, and what runs in
//! Kubernetes keeps to the rules that operators expect.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde_json::Value;

const PROGRAMS: [&str; 5] = ["node", "proxy", "replicator", "snapshotter", "switchover"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn deploy(part: &str) -> PathBuf {
    root().join("deploy").join(part)
}

/// The files of a directory whose names end so; there must be some.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(end))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "nothing in {} ends in {end}", dir.display());
    found
}

/// Runs a program with nothing in its environment but what is given.
fn run(program: &str, args: &[String], env: &BTreeMap<String, String>) -> Output {
    let binary = tests::clouds::binaries::path(program).unwrap();
    Command::new(binary).args(args).env_clear().envs(env).output().unwrap()
}

/// Holds a command line against the program: with `--check-config` where it starts a daemon or a
/// push. `configs` stands for /etc/godwit.
fn check(
    origin: &str,
    program: &str,
    args: &[String],
    configs: &Path,
    env: &BTreeMap<String, String>,
) {
    let here = format!("{}/", configs.display());
    let mut args: Vec<_> = args.iter().map(|arg| arg.replace("/etc/godwit/", &here)).collect();
    // Verbs that only read a store have no config to check: they are run, on a store that is not
    // there. They must fail for that reason and not for their flags.
    let alone = ["verify", "list", "prove", "prune"];
    let reads = args.first().is_some_and(|verb| alone.contains(&verb.as_str()));
    let helps = args.first().is_some_and(|arg| arg == "--help");
    if reads {
        args = args.iter().map(|arg| arg.replace("file:///", "file:///nowhere/")).collect();
        args = args.iter().map(|arg| arg.replace("/var/lib/", "/nowhere/")).collect();
    } else if !helps {
        args.push("--check-config".to_owned());
    }
    let output = run(program, &args, env);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let want = i32::from(reads);
    let line = format!("{origin}: {program} {}: {said}", args.join(" "));
    assert_eq!(output.status.code(), Some(want), "{line}");
    assert!(reads || helps || said.contains("config is good"), "{line}");
}

#[test]
fn systemd_starts_what_the_programs_take() {
    let dir = deploy("systemd");
    let mut configs: Vec<_> = files(&dir, ".toml");
    for unit in files(&dir, ".service") {
        let text = fs::read_to_string(&unit).unwrap().replace("\\\n", " ");
        let commands = text.lines().filter_map(|line| {
            line.strip_prefix("ExecStart=").or_else(|| line.strip_prefix("ExecStartPost="))
        });
        let mut any = false;
        for command in commands {
            let mut words = command.split_whitespace().map(str::to_owned);
            let program = words.next().unwrap().strip_prefix("/usr/bin/").unwrap().to_owned();
            let args: Vec<_> = words.collect();
            check(unit.to_str().unwrap(), &program, &args, &dir, &BTreeMap::new());
            configs.retain(|config| {
                let name = format!("/etc/godwit/{}", config.file_name().unwrap().to_str().unwrap());
                !args.contains(&name)
            });
            any = true;
        }
        assert!(any, "{} starts nothing", unit.display());
    }
    assert!(configs.is_empty(), "no unit uses {configs:?}");
    for timer in files(&dir, ".timer") {
        assert!(timer.with_extension("service").exists(), "{} starts nothing", timer.display());
    }
}

#[test]
fn images_start_what_the_programs_take() {
    let dockerfiles = files(&deploy("docker"), ".Dockerfile");
    assert_eq!(dockerfiles.len(), PROGRAMS.len());
    for file in dockerfiles {
        let text = fs::read_to_string(&file).unwrap();
        let words = |instruction: &str| -> Vec<String> {
            let line = text.lines().rev().find_map(|line| line.strip_prefix(instruction));
            let line = line.unwrap_or_else(|| panic!("{} has no {instruction}", file.display()));
            serde_json::from_str(line.trim()).unwrap()
        };
        let entrypoint = words("ENTRYPOINT");
        let program = entrypoint[0].strip_prefix("/usr/bin/").unwrap();
        let stem = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(program, format!("godwit-{stem}"), "{}", file.display());
        assert!(text.contains("\nUSER 6400:6400\n"), "{} runs as root", file.display());
        assert!(text.contains(&format!("dist/{program} ")), "{}", file.display());
        let args = [&entrypoint[1..], &words("CMD")].concat();
        check(file.to_str().unwrap(), program, &args, &deploy("systemd"), &BTreeMap::new());
    }
}

#[test]
fn each_sample_config_is_good() {
    for program in PROGRAMS {
        let sample = root().join(program).join(format!("godwit-{program}.toml"));
        assert!(sample.exists(), "{} is missing", sample.display());
        let mut args = vec!["--config".to_owned(), sample.to_str().unwrap().to_owned()];
        if program == "snapshotter" {
            args.insert(0, "push".to_owned());
        }
        let program = format!("godwit-{program}");
        check(
            sample.to_str().unwrap(),
            &program,
            &args,
            Path::new("/etc/godwit"),
            &BTreeMap::new(),
        );
    }
}

/// The documents of some YAML.
fn documents(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

fn base() -> Vec<Value> {
    let files = files(&deploy("kustomize/base"), ".yaml");
    let files = files.iter().filter(|path| !path.ends_with("kustomization.yaml"));
    files.flat_map(|path| documents(&fs::read_to_string(path).unwrap())).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The templates of Pods, each with the name of what makes them.
fn pods(documents: &[Value]) -> Vec<(String, &Value)> {
    let of = |document: &'_ Value| {
        let job = "/spec/jobTemplate/spec/template";
        let path = if document["kind"] == "CronJob" { job } else { "/spec/template" };
        path.to_owned()
    };
    let pods: Vec<_> = documents
        .iter()
        .filter_map(|d| Some((text(&d["metadata"]["name"]).to_owned(), d.pointer(&of(d))?)))
        .collect();
    assert_eq!(pods.len(), 3, "node, proxy, snapshot");
    pods
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["spec"]["initContainers"]).iter().chain(list(&pod["spec"]["containers"]))
}

/// A container's environment, as a kubelet would make it for the Pod of shard 1.
fn environment(container: &Value) -> BTreeMap<String, String> {
    let mut env = BTreeMap::<String, String>::new();
    for variable in list(&container["env"]) {
        let value = match variable.pointer("/valueFrom/fieldRef/fieldPath").map(text) {
            Some("metadata.name") => "godwit-node-1".to_owned(),
            Some("metadata.labels['apps.kubernetes.io/pod-index']") => "1".to_owned(),
            Some("status.podIP") => "10.0.0.7".to_owned(),
            Some(other) => panic!("what is {other}?"),
            None => {
                let mut value = text(&variable["value"]).to_owned();
                for (name, known) in &env {
                    value = value.replace(&format!("$({name})"), known);
                }
                value
            }
        };
        assert!(!value.contains("$("), "{value} refers to a variable that is not there");
        env.insert(text(&variable["name"]).to_owned(), value);
    }
    env
}

#[test]
fn kubernetes_starts_what_the_programs_take() {
    let configs = deploy("kustomize/base/config");
    for (name, pod) in pods(&base()) {
        for container in containers(pod) {
            let program = text(&container["image"]);
            let args: Vec<_> =
                list(&container["args"]).iter().map(|a| text(a).to_owned()).collect();
            check(&name, program, &args, &configs, &environment(container));
        }
    }
}

/// What every Pod must have, whoever wrote it.
fn check_pods(documents: &[Value]) {
    for (name, pod) in pods(documents) {
        let spec = &pod["spec"];
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(spec["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch", "{name}");
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        let mut volumes: Vec<_> = list(&spec["volumes"]).iter().map(|v| text(&v["name"])).collect();
        if name == "godwit-node" {
            volumes.push("data");
        }
        for container in containers(pod) {
            let what = format!("{name}/{}", text(&container["name"]));
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{what}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{what}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{what}");
            for resource in ["cpu", "memory", "ephemeral-storage"] {
                assert!(
                    container["resources"]["requests"][resource].is_string(),
                    "{what}: {resource}"
                );
            }
            assert!(!text(&container["image"]).ends_with(":latest"), "{what}");
            for mount in list(&container["volumeMounts"]) {
                assert!(volumes.contains(&text(&mount["name"])), "{what}: no volume {mount}");
            }
            let ports: Vec<_> =
                list(&container["ports"]).iter().map(|p| text(&p["name"])).collect();
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                let Some(probe) = container.get(probe) else { continue };
                assert!(ports.contains(&text(&probe["httpGet"]["port"])), "{what}: {probe}");
            }
            // Liveness asks the process alone: never the registry, a peer or lag.
            if let Some(liveness) = container.get("livenessProbe") {
                assert_eq!(liveness["httpGet"]["path"], "/metrics", "{what}");
            }
        }
    }
}

/// The rules that each kind has of its own.
fn check_kinds(documents: &[Value]) {
    let find = |kind: &str, name: &str| {
        let is = |d: &&Value| d["kind"] == kind && d["metadata"]["name"] == name;
        documents.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let nodes = find("StatefulSet", "godwit-node");
    let sidecar = &nodes["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always", "a native sidecar stops after the node");
    assert!(sidecar.get("readinessProbe").is_none(), "lag must not make the Pod unready");
    let retention = &nodes["spec"]["persistentVolumeClaimRetentionPolicy"];
    assert_eq!(
        (&retention["whenDeleted"], &retention["whenScaled"]),
        (&"Retain".into(), &"Retain".into())
    );
    let headless = find("Service", text(&nodes["spec"]["serviceName"]));
    assert_eq!(headless["spec"]["clusterIP"], "None");
    assert_eq!(headless["spec"]["publishNotReadyAddresses"], true);
    let rolling = &find("Deployment", "godwit-proxy")["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(rolling["maxUnavailable"], 0);
    assert_eq!(find("CronJob", "godwit-snapshot")["spec"]["concurrencyPolicy"], "Forbid");
    for (workload, name) in [("StatefulSet", "godwit-node"), ("Deployment", "godwit-proxy")] {
        let labels = &find(workload, name)["spec"]["template"]["metadata"]["labels"];
        for selecting in [find("PodDisruptionBudget", name)["spec"]["selector"].get("matchLabels")]
        {
            for (label, value) in selecting.unwrap().as_object().unwrap() {
                assert_eq!(&labels[label], value, "the budget of {name} selects nobody");
            }
        }
        for (label, value) in find("Service", name)["spec"]["selector"].as_object().unwrap() {
            assert_eq!(&labels[label], value, "the Service {name} selects nobody");
        }
    }
}

#[test]
fn what_runs_in_kubernetes_keeps_to_the_rules() {
    check_pods(&base());
    check_kinds(&base());
}

#[test]
fn kustomize_renders_the_base() {
    let rendered = Command::new("kubectl").arg("kustomize").arg(deploy("kustomize/base")).output();
    let Ok(rendered) = rendered else {
        eprintln!("SKIPPED: there is no kubectl here, so nothing was rendered");
        return;
    };
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    let documents = documents(std::str::from_utf8(&rendered.stdout).unwrap());
    check_pods(&documents);
    check_kinds(&documents);
    let configs: Vec<_> = documents.iter().filter(|d| d["kind"] == "ConfigMap").collect();
    let name = text(&configs[0]["metadata"]["name"]);
    assert!(name.starts_with("godwit-config-"), "a change of config must roll the Pods: {name}");
    for (owner, pod) in pods(&documents) {
        let config = list(&pod["spec"]["volumes"]).iter().find(|v| v["name"] == "config").unwrap();
        assert_eq!(config["configMap"]["name"], name, "{owner}");
        for container in containers(pod) {
            assert!(text(&container["image"]).contains(':'), "{owner}: an image without a tag");
        }
    }
}
