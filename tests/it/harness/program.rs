//! The program, run as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the program in the checkout; what it said and its exit status.
pub fn icpgate(arguments: &[&str]) -> Run {
    icpgate_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

pub fn icpgate_in(directory: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_icpgate"));
    command.args(arguments).current_dir(directory).env_remove("RUST_LOG").env("NO_COLOR", "1");
    Run(command.output().expect("the program runs"))
}

/// A finished run.
pub struct Run(pub Output);

impl Run {
    pub fn status(&self) -> i32 {
        self.0.status.code().expect("an exit status")
    }

    pub fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).expect("UTF-8")
    }

    pub fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out()).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out(), self.err()))
    }

    /// Fails unless the exit status is `status` and the output holds every text.
    pub fn expect(&self, status: i32, texts: &[&str]) {
        let all = self.out() + &self.err();
        assert_eq!(self.status(), status, "{all}");
        for text in texts {
            assert!(all.contains(text), "{text:?} is not in\n{all}");
        }
    }
}

/// A directory with a registry file and a configuration that reads it.
pub struct Site {
    pub directory: tempfile::TempDir,
}

impl Site {
    pub fn new(name: &str, registry: &str, more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let tags = "prefix,region,provider,product,origin\n203.0.113.0/24,mainland,self,ecs,\n";
        for (file, text) in [(name, registry), ("tags.csv", tags)] {
            std::fs::write(directory.path().join(file), text).expect("writes");
        }
        let config = format!("version = 1\n[registry]\npaths = [{name:?}]\n[ranges]\ntags = [\"tags.csv\"]\n{more}");
        std::fs::write(directory.path().join("icpgate.toml"), config).expect("writes");
        Self { directory }
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        icpgate_in(self.directory.path(), &[arguments, &["--config", "icpgate.toml"]].concat())
    }
}

pub const DNS: &str = "[dns]\nlisten = [\"127.0.0.1:0\"]\n";
