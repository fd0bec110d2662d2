//! The container file and the manifests: what they copy, mount, select and name is there, the configuration in them is one,
//! and nothing in them runs with more rights than it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;

use yaml_rust2::{Yaml, YamlLoader};

use super::observing::path;

/// What the manifests name and the operator makes first.
const MADE_BY_HAND: [&str; 1] = ["icpgate-admin"];

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents by kind and name.
fn manifests() -> BTreeMap<(String, String), Yaml> {
    let documents = YamlLoader::load_from_str(&text("conf/kubernetes/resolver.yaml")).expect("YAML");
    let mut res = BTreeMap::new();
    for document in documents {
        let (kind, name) = (word(&document["kind"]), word(&document["metadata"]["name"]));
        assert!(!word(&document["apiVersion"]).is_empty(), "{kind} {name}");
        assert_eq!(word(&document["metadata"]["namespace"]), "icpgate", "{kind} {name}");
        assert!(res.insert((kind.clone(), name.clone()), document).is_none(), "{kind} {name} twice");
    }
    res
}

fn word(value: &Yaml) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Yaml) -> &[Yaml] {
    value.as_vec().map_or(&[], Vec::as_slice)
}

fn found(manifests: &BTreeMap<(String, String), Yaml>, kind: &str, name: &str) -> Yaml {
    manifests.get(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("no {kind} {name}")).clone()
}

#[test]
fn what_the_manifests_name_is_there() {
    let manifests = manifests();
    let set = found(&manifests, "DaemonSet", "icpgate");
    let pod = &set["spec"]["template"]["spec"];
    found(&manifests, "ServiceAccount", &word(&pod["serviceAccountName"]));
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&found(&manifests, "Service", "icpgate-dns")["spec"]["selector"], labels);
    let policy = found(&manifests, "NetworkPolicy", "icpgate");
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    let mut volumes = BTreeSet::new();
    for volume in list(&pod["volumes"]) {
        if let Some(name) = volume["configMap"]["name"].as_str() {
            found(&manifests, "ConfigMap", name);
        }
        if let Some(name) = volume["secret"]["secretName"].as_str() {
            assert!(MADE_BY_HAND.contains(&name), "{name}");
            assert!(text("conf/kubernetes/resolver.yaml").contains(&format!("create secret generic {name}")));
        }
        volumes.insert(word(&volume["name"]));
    }
    let container = &pod["containers"][0];
    let mounted: BTreeSet<String> = list(&container["volumeMounts"]).iter().map(|mount| word(&mount["name"])).collect();
    assert_eq!(mounted, volumes);
    let ports: BTreeSet<String> = list(&container["ports"]).iter().map(|port| word(&port["name"])).collect();
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert!(ports.contains(&word(&container[probe]["httpGet"]["port"])), "{probe}");
    }
    assert_eq!(word(&container["readinessProbe"]["httpGet"]["path"]), "/readyz");
    assert_eq!(word(&container["livenessProbe"]["httpGet"]["path"]), "/healthz");
    for port in list(&found(&manifests, "Service", "icpgate-dns")["spec"]["ports"]) {
        assert!(ports.contains(&word(&port["targetPort"])), "{port:?}");
    }
    for rule in list(&policy["spec"]["ingress"]) {
        assert!(list(&rule["ports"]).iter().all(|port| ports.contains(&word(&port["port"]))), "{rule:?}");
    }
}

#[test]
fn pods_have_no_right_that_they_do_not_need() {
    let set = found(&manifests(), "DaemonSet", "icpgate");
    let pod = &set["spec"]["template"]["spec"];
    let (outer, container) = (&pod["securityContext"], &pod["containers"][0]);
    let inner = &container["securityContext"];
    assert_eq!(outer["runAsNonRoot"].as_bool(), Some(true));
    assert!(outer["runAsUser"].as_i64().is_some_and(|user| user > 0));
    assert_eq!(word(&outer["seccompProfile"]["type"]), "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"].as_bool(), Some(false));
    assert_eq!(inner["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(inner["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(list(&inner["capabilities"]["drop"]), [Yaml::String("ALL".into())]);
    assert!(inner["capabilities"]["add"].is_badvalue() && pod["hostNetwork"].is_badvalue());
    assert!(!container["resources"]["limits"]["memory"].is_badvalue());
    let image = word(&container["image"]);
    assert!(image.ends_with(env!("CARGO_PKG_VERSION")), "{image} is not this version");
}

#[test]
fn the_configuration_in_the_manifests_is_one_and_its_files_are_mounted() {
    let manifests = manifests();
    let shipped = word(&found(&manifests, "ConfigMap", "icpgate-config")["data"]["icpgate.toml"]);
    let mut token = tempfile::NamedTempFile::new().expect("a file");
    token.write_all(b"0123456789abcdef0123456789abcdef").expect("writes");
    let here = shipped.replace("/etc/icpgate/admin/token", &token.path().display().to_string());
    assert_ne!(here, shipped, "it names the token");
    icpgate::config::parse("resolver.yaml", &here, &[]).unwrap_or_else(|error| panic!("{error}"));
    let set = found(&manifests, "DaemonSet", "icpgate");
    let mounts = list(&set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]);
    let mounts: Vec<String> = mounts.iter().map(|mount| word(&mount["mountPath"])).collect();
    let in_image = text("conf/container/Containerfile");
    for path in shipped.split('"').filter(|text| text.starts_with('/')) {
        let is_mounted = mounts.iter().any(|mount| path.starts_with(mount.as_str()));
        let name = path.rsplit('/').next().unwrap_or_default();
        assert!(is_mounted || in_image.contains(name), "{path} is neither mounted nor in the image");
    }
}

#[test]
fn the_packaged_configuration_is_one() {
    icpgate::config::parse("icpgate.toml", &text("conf/debian/icpgate.toml"), &[])
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_image_has_what_it_copies_and_no_root() {
    let file = text("conf/container/Containerfile");
    let joined = file.replace("\\\n", " ");
    let mut last_user = "";
    for line in joined.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["COPY", rest @ ..] if !rest.iter().any(|word| word.starts_with("--from")) => {
                let (_, sources) = rest.split_last().expect("a target");
                assert!(sources.iter().all(|source| path(source).exists()), "{line}");
            }
            ["RUN", rest @ ..] => {
                let sources = rest.iter().filter(|word| word.starts_with("conf/"));
                sources.for_each(|source| assert!(path(source).exists(), "{source}"));
            }
            ["USER", user] => last_user = user,
            _ => {}
        }
    }
    let user = last_user.split(':').next().and_then(|user| user.parse::<u32>().ok());
    assert!(user.is_some_and(|user| user > 0), "{last_user:?} is no number of a user other than root");
    for text in ["HEALTHCHECK", "\"/usr/bin/icpgate\", \"status\"", "ENTRYPOINT [\"/usr/bin/icpgate\"]", "--locked"] {
        assert!(file.contains(text), "{text}");
    }
    assert_eq!(file.matches("\nFROM ").count(), 2, "one stage builds, the other runs");
}
