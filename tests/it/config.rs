//! The configuration: what is accepted, and what exactly is said of what is not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use icpgate::config::{self, ConfigError, Loaded, spec};
use icpgate::dns::settings::BlockAction;
use icpgate::policy::Mode;

/// The checkout's `conf/`.
fn conf(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(path)
}

fn parse(text: &str) -> Result<Loaded, ConfigError> {
    config::parse("t.toml", text, &[])
}

fn good(text: &str) -> Loaded {
    parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The lines that are said of `text`.
fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => panic!("was accepted:\n{text}"),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

//--- Defaults and shipped files --------------------------------------------------------------------------------------

#[test]
fn version_alone_is_a_configuration_of_defaults() {
    let loaded = good("version = 1\n");
    assert_eq!(loaded.spec, spec::Spec::default());
    assert_eq!(loaded.config.rules.mode, Mode::Enforce);
    assert!(loaded.config.dns.listen.is_empty() && loaded.config.http.listen.is_empty());
}

#[test]
fn full_file_says_every_key_and_every_default() {
    let text = std::fs::read_to_string(conf("icpgate.full.toml")).expect("the full file");
    let (written, places) =
        config::parse_spec("full", &text, &[], &mut Vec::new()).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(written, spec::Spec::default(), "the full file's values are the defaults");
    let every = keys("", &serde_json::to_value(spec::Spec::default()).expect("JSON"));
    let missing: Vec<_> = every.iter().filter(|key| !places.contains_key(*key)).collect();
    assert!(missing.is_empty(), "keys that conf/icpgate.full.toml leaves out: {missing:?}");
}

fn keys(path: &str, value: &serde_json::Value) -> BTreeSet<String> {
    let Some(object) = value.as_object() else { return BTreeSet::from([path.to_owned()]) };
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    object.iter().flat_map(|(key, inner)| keys(&join(key), inner)).collect()
}

#[test]
fn shipped_files_are_accepted() {
    // Their paths are relative to the checkout, where tests run.
    for name in ["resolver", "authoritative", "inline-gateway", "observe"] {
        let file = conf(&format!("profiles/{name}.toml"));
        let loaded = config::load_with(Some(&file), &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
    }
    let demo = config::load_with(Some(&conf("icpgate.toml")), &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(demo.config.dns.listen, ["127.0.0.1:5300".parse().expect("an address")]);
    assert_eq!(demo.config.http.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    assert_eq!(demo.config.http.demo_origin, Some("127.0.0.1:8081".parse().expect("an address")));
    assert_eq!(demo.config.admin.listen, Some("127.0.0.1:9153".parse().expect("an address")));
    assert_eq!(demo.config.dns.zones.len(), 1);
}

#[test]
fn demo_unpacks_into_a_fresh_private_directory_and_cleans_up() {
    let parent = tempfile::tempdir().expect("a directory");
    let demo = config::Demo::unpack(parent.path()).expect("unpacks");
    let other = config::Demo::unpack(parent.path()).expect("unpacks again beside it");
    let directory = demo.directory().expect("a directory").to_owned();
    assert_ne!(Some(directory.as_path()), other.directory());
    let loaded = config::parse("demo", &demo.text(), &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.config.registry.paths, [directory.join("conf/registry")]);
    for path in loaded.config.registry.paths.iter().chain(&loaded.config.ranges.tags) {
        assert!(path.exists(), "{}", path.display());
    }
    drop(demo);
    assert!(!directory.exists());
}

#[test]
fn schema_knows_every_key_and_its_bounds() {
    let schema = spec::schema();
    let ttl = &schema["properties"]["dns"]["properties"]["block"]["properties"]["ttl-seconds"];
    assert_eq!((ttl["minimum"].as_u64(), ttl["maximum"].as_u64()), (Some(1), Some(86_400)));
    assert!(ttl["description"].as_str().is_some_and(|text| text.contains("TTL")));
    assert_eq!(schema["required"], serde_json::json!(["version"]));
    assert_eq!(schema["additionalProperties"], false);
    let text = schema.to_string();
    assert!(!text.contains("$ref"), "the schema stands alone");
}

//--- Values ----------------------------------------------------------------------------------------------------------

#[test]
fn values_reach_the_settings_of_their_layer() {
    let loaded = good(
        r#"version = 1
[provider]
id = "acme"
[policy]
mode = "observe"
exempt = [{ suffix = "intranet.example", why = "inside only" }]
non-web = ["mail.example.com"]
on-missing-registry = "observe"
[registry]
max-age-seconds = 3600
encoding = "gb18030"
[dns]
listen = ["127.0.0.1:5300", "[::1]:5300"]
allow-from = ["192.0.2.1"]
upstream-timeout-milliseconds = 250
block = { action = "nxdomain", ttl-seconds = 5, ede-code = 15 }
[[dns.upstream]]
suffix = "corp.example"
servers = ["tls://192.0.2.53#dns.corp.example"]
policy = "round-robin"
[journal]
path = "v.jsonl"
what = "sampled"
sample-one-in = 7
"#,
    );
    let config = loaded.config;
    assert_eq!((config.registry.provider.as_str(), config.ranges.provider.as_str()), ("acme", "acme"));
    assert_eq!(config.http.provider.id, "acme");
    assert_eq!(config.rules.mode, Mode::Observe);
    assert_eq!(config.rules.exempt[0].suffix.to_string(), "intranet.example");
    assert_eq!(config.rules.non_web.len(), 1);
    assert_eq!(config.faults.on_missing_registry, icpgate::ops::Missing::Observe);
    assert_eq!(config.faults.registry_age_max, Some(Duration::from_secs(3600)));
    assert_eq!(config.dns.block.action, BlockAction::Nxdomain);
    assert_eq!(config.dns.allow_from[0].to_string(), "192.0.2.1/32");
    assert_eq!(config.dns.upstream_timeout, Duration::from_millis(250));
    assert_eq!(config.dns.upstreams[0].servers[0].addr.port(), 853);
    assert_eq!(config.journal.what, icpgate::ops::JournalWhat::Sampled(7));
}

#[test]
fn environment_is_stronger_than_the_file_and_says_so() {
    let variables = environment(&[
        ("ICPGATE_DNS_BLOCK_TTL_SECONDS", "10"),
        ("ICPGATE_DNS_ALLOW_FROM", "192.0.2.0/24, 2001:db8::/32"),
        ("ICPGATE_DNS_LISTEN", "[\"127.0.0.1:5300\"]"),
        ("ICPGATE_POLICY_MODE", "observe"),
        ("ICPGATE_REGISTRY_BIND_CHECK", "true"),
        ("ICPGATE_PORT_53_UDP", "tcp://10.0.0.1"),
        ("ICPGATE_DNS_LISTENN", "x"),
        ("PATH", "/bin"),
    ]);
    let text = "version = 1\n[policy]\nmode = \"enforce\"\n[dns]\nblock = { ttl-seconds = 20 }\n";
    let loaded = config::parse("t.toml", text, &variables).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.config.dns.block.ttl_seconds, 10);
    assert_eq!(loaded.config.dns.allow_from.len(), 2);
    assert_eq!(loaded.config.rules.mode, Mode::Observe);
    assert!(loaded.config.registry.bind_check);
    assert_eq!(loaded.warnings, ["environment ICPGATE_DNS_LISTENN: no such key; did you mean ICPGATE_DNS_LISTEN?"]);
    let shown = config::show::effective(&loaded);
    let origin = |key: &str| shown.iter().find(|shown| shown.key == key).expect(key).origin.clone();
    assert_eq!(origin("dns.block.ttl-seconds"), "environment ICPGATE_DNS_BLOCK_TTL_SECONDS");
    assert_eq!(origin("version"), "t.toml:1:11");
    assert_eq!(origin("dns.inflight-max"), "default");
}

#[test]
fn bad_environment_is_told_by_variable() {
    let variables = environment(&[("ICPGATE_DNS_INFLIGHT_MAX", "many"), ("ICPGATE_POLICY_MODE", "enforced")]);
    let Err(ConfigError::Invalid(found)) = config::parse("t.toml", "version = 1\n", &variables) else {
        panic!("was accepted")
    };
    let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains("environment ICPGATE_DNS_INFLIGHT_MAX: dns.inflight-max = \"many\": "), "{text}");
    assert!(
        text.contains(
            "environment ICPGATE_POLICY_MODE: policy.mode = \"enforced\": expected \"enforce\", \"observe\" or \"off\""
        ),
        "{text}"
    );
}

//--- Bad input -------------------------------------------------------------------------------------------------------

/// Each text with the lines that must be said of it, in any order.
const BAD: &[(&str, &[&str])] = &[
    ("", &["t.toml:1:1: version: is missing; expected version = 1"]),
    ("version = 2\n", &["t.toml:1:11: version = 2: this program reads version 1 of the format; expected version = 1"]),
    ("version = 1\n[dns]\nlisen = []\n", &["t.toml:3:1: dns.lisen: unknown key; did you mean listen?"]),
    ("version = 1\n[dsn]\n", &["t.toml:2:2: dsn: unknown key; did you mean dns?"]),
    (
        "version = 1\n[admin]\nq = 1\n",
        &["t.toml:3:1: admin.q: unknown key; available: handover, listen, names, socket, tls, token-file"],
    ),
    (
        "version = 1\n[registry]\nfile = \"x\"\n",
        &["t.toml:3:1: registry.file: unknown key; it is a list called registry.paths"],
    ),
    (
        "version = 1\n[dns]\nlisten = \"127.0.0.1:53\"\n",
        &["t.toml:3:10: dns.listen = \"127.0.0.1:53\": is a text; expected a list, such as [\"…\"]"],
    ),
    (
        "version = 1\n[dns]\nlisten = [\n  \"127.0.0.1\",\n  \"127.0.0.1:0\",\n  \"127.0.0.1:53\",\n  \"127.0.0.1:53\",\n]\n",
        &[
            "t.toml:4:3: dns.listen[0] = \"127.0.0.1\": expected an address and port, such as \"127.0.0.1:53\" or \"[::1]:53\"",
            "t.toml:7:3: dns.listen[3] = \"127.0.0.1:53\": is there twice",
        ],
    ),
    (
        "version = 1\n[registry]\npoll-seconds = 0\nmax-shrink-percent = 101\n",
        &[
            "t.toml:3:16: registry.poll-seconds = 0: out of bounds; expected a whole number from 1 to 315360000",
            "t.toml:4:22: registry.max-shrink-percent = 101: out of bounds; expected a whole number from 0 to 100",
        ],
    ),
    (
        "version = 1\n[policy]\nmode = \"on\"\nip-site = 3\nexpired = true\n",
        &[
            "t.toml:3:8: policy.mode = \"on\": expected \"enforce\", \"observe\" or \"off\"",
            "t.toml:4:11: policy.ip-site = 3: expected \"allow\", \"block\" or \"observe\"",
            "t.toml:5:11: policy.expired = true: expected \"block\" or \"report\"",
        ],
    ),
    (
        "version = 1\n[policy]\nexempt = [{ suffix = \"com.cn\", why = \"x\" }, { suffix = \"a.example\", why = \" \" }, { suffix = \"b.example\" }]\n",
        &["t.toml:3:82: policy.exempt[2]: why is missing"],
    ),
    (
        "version = 1\n[policy]\nexempt = [{ suffix = \"com.cn\", why = \"x\" }, { suffix = \"a.example\", why = \" \" }, { suffix = \".\", why = \"x\" }]\n",
        &[
            "t.toml:3:22: policy.exempt[0].suffix = \"com.cn\": is a public suffix, which holds other people's domains; expected a name below it",
            "t.toml:3:75: policy.exempt[1].why = \" \": expected the reason, which explain shows",
            "t.toml:3:93: policy.exempt[2].suffix = \".\": name has an empty label; expected a domain name",
        ],
    ),
    (
        "version = 1\n[dns]\nallow-from = [\"192.0.2.1/24\", \"lan\"]\n",
        &[
            "t.toml:3:15: dns.allow-from[0] = \"192.0.2.1/24\": has bits beyond its prefix length; expected \"192.0.2.0/24\"",
            "t.toml:3:31: dns.allow-from[1] = \"lan\": expected a prefix or an address, such as \"192.0.2.0/24\" or \"::1\"",
        ],
    ),
    (
        "version = 1\n[dns]\nlisten = [\"127.0.0.1:53\"]\nallow-from = []\n",
        &["t.toml:4:14: dns.allow-from = \"\": nobody could ask; expected prefixes of clients"],
    ),
    (
        "version = 1\n[dns]\nblock = { ipv4 = [], ipv6 = [], ede-code = 4 }\n",
        &["t.toml:3:44: dns.block.ede-code = 4: out of bounds; expected a whole number from 15 to 17"],
    ),
    (
        "version = 1\n[dns]\nblock = { ipv4 = [], ipv6 = [] }\n",
        &[
            "t.toml:3:9: dns.block.action = \"redirect\": needs addresses to lead to; expected dns.block.ipv4 or dns.block.ipv6, or another action",
        ],
    ),
    (
        "version = 1\n[http]\norigin = \"resolve\"\nfixed-tls = \"127.0.0.1:1\"\n",
        &[
            "t.toml:4:13: http.fixed-tls = \"127.0.0.1:1\": is used with origin = \"fixed\" only; expected \"\"",
            "t.toml:2:1: http.resolvers = \"\": origin = \"resolve\" needs name servers; expected addresses, such as [\"127.0.0.1:53\"]",
        ],
    ),
    (
        "version = 1\n[http]\norigin = \"original-dst\"\nquic-listen = [\"127.0.0.1:443\"]\nresolve-to = [\"::/0\"]\n",
        &[
            "t.toml:4:15: http.quic-listen = \"127.0.0.1:443\": works with origin = \"fixed\" only, for now; expected []",
            "t.toml:5:14: http.resolve-to = \"::/0\": is used with origin = \"resolve\" only; expected []",
        ],
    ),
    (
        "version = 1\n[http]\nproxy-protocol = { version = \"v3\" }\n",
        &["t.toml:3:30: http.proxy-protocol.version = \"v3\": expected \"v1\" or \"v2\""],
    ),
    (
        "version = 1\n[http]\ntls-listen = [\"127.0.0.1:443\"]\nquic-listen = [\"127.0.0.1:443\"]\n",
        &[
            "t.toml:2:1: http.fixed-tls = \"\": filed connections need an origin; expected its address and port",
            "t.toml:2:1: http.fixed-quic = \"\": filed connections need an origin; expected its address and port",
        ],
    ),
    (
        "version = 1\n[http]\nlisten = [\"127.0.0.1:80\"]\n",
        &["t.toml:2:1: http.fixed = \"\": filed requests need an origin; expected its address and port"],
    ),
    (
        "version = 1\n[http]\nlisten = [\"127.0.0.1:0\"]\nfixed = \"127.0.0.1:0\"\n",
        &["t.toml:4:9: http.fixed = \"127.0.0.1:0\": port 0 cannot be connected to; expected a port from 1 to 65535"],
    ),
    (
        "version = 1\n[http]\nlisten = [\"0.0.0.0:80\"]\nfixed = \"127.0.0.1:80\"\n",
        &["t.toml:4:9: http.fixed = \"127.0.0.1:80\": is the gate itself: what is filed would go in circles"],
    ),
    (
        "version = 1\n[http.block]\nstatus = 404\n",
        &["t.toml:3:10: http.block.status = \"404\": expected 451, 403, 302 or 307"],
    ),
    (
        "version = 1\n[http.block]\nstatus = 302\n",
        &["t.toml:2:1: http.block.redirect = \"\": expected an http:// or https:// URL without blanks"],
    ),
    (
        "version = 1\n[http.block]\nredirect = \"https://p.example/\"\n",
        &[
            "t.toml:3:12: http.block.redirect = \"https://p.example/\": is used with status 302 or 307 only; expected \"\"",
        ],
    ),
    (
        "version = 1\n[http.block]\nstatus = 307\nredirect = \"https://p.example/?d={host}\"\n",
        &[
            "t.toml:4:12: http.block.redirect = \"https://p.example/?d={host}\": {host} is no placeholder; available: {name}, {domain}, {reason}, {id}",
        ],
    ),
    (
        "version = 1\n[admin]\nlisten = \"192.0.2.1:9153\"\n",
        &[
            "t.toml:3:10: admin.listen = \"192.0.2.1:9153\": is no loopback address: anybody could reload; expected admin.token-file or admin.tls.client-ca as well",
        ],
    ),
    (
        "version = 1\n[admin]\ntoken-file = \"/nonexistent/token\"\n",
        &[
            "t.toml:3:14: admin.token-file = \"/nonexistent/token\": cannot be read: No such file or directory (os error 2)",
        ],
    ),
    (
        "version = 1\n[provider]\nid = \"a b\"\nfiling-url = \"javascript:x\"\n",
        &[
            "t.toml:3:6: provider.id = \"a b\": expected 1 to 64 characters without blank, comma or semicolon",
            "t.toml:4:14: provider.filing-url = \"javascript:x\": expected an http:// or https:// URL without blanks",
        ],
    ),
    (
        "version = 1\n[ranges]\nnat64 = [\"64:ff9b::/95\"]\n",
        &[
            "t.toml:3:10: ranges.nat64[0] = \"64:ff9b::/95\": expected a prefix length of 32, 40, 48, 56, 64 or 96 (RFC 6052)",
        ],
    ),
    (
        "version = 1\n[dns]\nresolve-timeout-milliseconds = 100\n",
        &[
            "t.toml:3:32: dns.resolve-timeout-milliseconds = \"100\": is shorter than dns.upstream-timeout-milliseconds; expected at least as long",
        ],
    ),
    (
        "version = 1\n[[dns.upstream]]\nsuffix = \"\"\nservers = []\n[[dns.upstream]]\nservers = [\"dot.pub\", \"udp://192.0.2.1\", \"udp://192.0.2.1\"]\n",
        &[
            "t.toml:4:11: dns.upstream[0].servers = \"\": expected at least one server, such as \"udp://192.0.2.53\"",
            "t.toml:5:1: dns.upstream[1].suffix = \"\": is there twice; expected one table a suffix",
            "t.toml:6:12: dns.upstream[1].servers[0] = \"dot.pub\": no scheme; expected udp://ADDRESS, tcp://ADDRESS, tls://ADDRESS#NAME or https://ADDRESS/PATH#NAME",
            "t.toml:6:42: dns.upstream[1].servers[2] = \"udp://192.0.2.1\": is there twice",
        ],
    ),
];

#[test]
fn bad_input_is_told_with_place_key_value_and_what_is_right() {
    let mut wrong = Vec::new();
    for (text, expected) in BAD {
        let mut found = problems(text);
        let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
        found.sort();
        expected.sort();
        if found != expected {
            wrong.push(format!("{text}\nexpected {expected:#?}\nfound {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn zero_durations_are_refused_or_floored() {
    let every = keys("", &serde_json::to_value(spec::Spec::default()).expect("JSON"));
    // Zero has a meaning of its own here: no limit, nothing stale.
    let meaningful = ["registry.max-age-seconds", "dns.stale-max-seconds"];
    let is_time = |key: &String| key.ends_with("-seconds") || key.ends_with("-milliseconds");
    for key in every.iter().filter(|key| is_time(key) && !meaningful.contains(&key.as_str())) {
        let (section, name) = key.split_once('.').expect("a section");
        let text = format!("version = 1\n[{section}]\n{name} = 0\n");
        let found = problems(&text);
        assert!(found.iter().any(|line| line.contains("out of bounds")), "{key}: {found:?}");
    }
}

#[test]
fn syntax_errors_name_line_and_column() {
    let found = problems("version = 1\n[dns\nlisten = [1,\n");
    assert!(found[0].starts_with("t.toml:2:"), "{found:?}");
}

#[test]
fn open_resolver_is_warned_of() {
    let text = "version = 1\n[dns]\nlisten = [\"192.0.2.1:53\"]\nallow-from = [\"0.0.0.0/0\"]\n[[dns.upstream]]\nservers = [\"udp://192.0.2.53\"]\n";
    let loaded = good(text);
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("open resolver"));
}

#[test]
fn missing_and_oversized_files_are_named() {
    let missing = config::load_with(Some(Path::new("/nonexistent/x.toml")), &[]).expect_err("no such file");
    assert!(missing.to_string().starts_with("/nonexistent/x.toml: cannot be read"), "{missing}");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("big.toml");
    std::fs::write(&file, vec![b'#'; 2 << 20]).expect("writes");
    let large = config::load_with(Some(&file), &[]).expect_err("too large");
    assert!(large.to_string().contains("larger than"), "{large}");
}

//--- Certificates ----------------------------------------------------------------------------------------------------

#[test]
fn certificates_are_tables_of_two_paths() {
    let loaded = good("version = 1\n[[http.certificate]]\nchain = \"a.pem\"\nkey = \"a.key\"\n");
    let files = &loaded.config.http.certificates;
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].chain.as_path(), files[0].key.as_path()), (Path::new("a.pem"), Path::new("a.key")));
    let wrong = "version = 1\n[http]\ncertificate = [{ chain = \"\", key = \"k\" }, { chain = \"c\", key = \" \" }]\n";
    let said = problems(wrong);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("http.certificate[0].chain = \"\": expected the path of a PEM file of certificates"),
        "{said:?}"
    );
    assert!(
        said[1].contains("http.certificate[1].key = \" \": expected the path of a PEM file of the private key"),
        "{said:?}"
    );
    let twice = "version = 1\n[http]\ncertificate = [{ chain = \"c\", key = \"k\" }, { chain = \"c\", key = \"k\" }]\n";
    assert!(problems(twice)[0].contains("is there twice"));
    let missing = "version = 1\n[[http.certificate]]\nchain = \"c\"\n";
    assert!(problems(missing)[0].contains("key is missing"));
}

#[test]
fn certificates_need_an_origin_that_is_told() {
    let certificate = "[[http.certificate]]\nchain = \"c\"\nkey = \"k\"\n";
    for origin in ["origin = \"original-dst\"\n", "origin = \"resolve\"\nresolvers = [\"127.0.0.1:53\"]\n"] {
        let said = problems(&format!("version = 1\n[http]\n{origin}{certificate}"));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("http.certificate[0].chain = \"c\": works with origin = \"fixed\" only"), "{said:?}");
    }
    let listen = "version = 1\n[http]\ntls-listen = [\"127.0.0.1:8443\"]\nfixed-tls = \"192.0.2.9:443\"\n";
    good(listen);
    let said = problems(&format!("{listen}{certificate}"));
    assert!(said[0].contains("http.fixed = \"\": filed requests need an origin"), "{said:?}");
    good(&format!("{listen}fixed = \"192.0.2.9:80\"\n{certificate}"));
}
