//! `icpgate explain`: the whole decision for one name, on the data a gate would load.

use std::net::IpAddr;
use std::time::SystemTime;

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::text::Text;
use super::{Common, Status, data};
use crate::model::{Day, DomainName, Via};
use crate::policy::explain::{Explanation, OwnedHost, Question};
use crate::policy::{Action, Mode, Rules, View};

mod as_of;
mod print;
mod zone;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  icpgate explain www.unfiled.example                    the address comes from the local zones
  icpgate explain www.example.com --address 203.0.113.11
  icpgate explain www.example.com --address 192.0.2.1 --cname a.cdn-global.self.example
  icpgate explain 203.0.113.10                           a host that is a bare address
  icpgate explain example.com --via http                 as if it stood on a mainland server behind the gate
  icpgate explain example.com --at 2027-01-01            what dated rows and events will have made of it

The decision id is made of the registrable domain, the reason and the generations of registry and ranges: the same on every
plane, another one after each published reload even where the verdict stays. Here both generations are 1.

Exit status: 0 allow, 1 block.";

/// What `explain` takes.
#[derive(Args)]
pub struct Arguments {
    /// The name as asked or requested: any case, U-labels or A-labels, a bare address; \. for a dot inside a label
    name: String,
    /// Where it leads; may be given several times
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
    /// A CNAME target on the way; may be given several times
    #[arg(long = "cname", value_name = "NAME")]
    cnames: Vec<String>,
    /// Query type; types that carry no address of a web service are not judged
    #[arg(long = "type", value_name = "TYPE")]
    qtype: Option<String>,
    /// The plane that asks [default: dns with addresses, http without]
    #[arg(long, value_enum)]
    via: Option<ViaWord>,
    /// The verdict as of noon of this day, by what the files say today
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = read_day)]
    at: Option<Day>,
    /// By what [shadow] judges, not by what is live
    #[arg(long)]
    shadow: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn read_day(text: &str) -> Result<Day, String> {
    Day::parse(text).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ViaWord {
    /// A DNS answer
    Dns,
    /// A request
    Http,
}

/// Explains one name.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Status> {
    let mut loaded = data::configuration(common)?;
    let mut notes = Vec::new();
    if arguments.shadow {
        let config = &mut loaded.config;
        let Some(shadow) = config.shadow.take() else {
            bail!("--shadow: nothing judges beside the live data; expected a [shadow] section in the configuration");
        };
        config.rules = shadow.rules;
        config.registry = shadow.registry.unwrap_or_else(|| config.registry.clone());
        config.ranges = shadow.ranges.unwrap_or_else(|| config.ranges.clone());
        notes.push("by [shadow]: this is what would be said, not what is".to_owned());
    }
    let now = match arguments.at {
        Some(day) => as_of::time(&mut loaded.config.registry, day),
        None => SystemTime::now(),
    };
    let view = data::view(&loaded, now, &mut notes)?;
    let question = read_question(&loaded, &view, arguments, &mut notes)?;
    let view = match arguments.at {
        Some(day) => as_of::view(view, &loaded.config.registry.provider, question.name(), day, &mut notes),
        None => view,
    };
    let provider = &loaded.config.provider.id;
    let is_judged = arguments.qtype.as_deref().is_none_or(is_judged_type);
    let view = if is_judged { view } else { without_web(view, &question, arguments, &mut notes) };
    let verdict = view.judge(&question.subject(), now);
    let enforced = view.rules.mode == Mode::Enforce && (verdict.action == Action::Allow || verdict.enforceable);
    let explanation = Explanation::new(&view, provider, &question, &verdict, enforced, now, notes);
    let mut text = Text::new();
    if arguments.json {
        text.json(&explanation)?;
    } else {
        print::explanation(&explanation, &mut text);
    }
    text.print()?;
    Ok(if verdict.action == Action::Allow { Status::Good } else { Status::Findings })
}

fn read_question(
    loaded: &crate::config::Loaded,
    view: &View,
    arguments: &Arguments,
    notes: &mut Vec<String>,
) -> anyhow::Result<Question> {
    let host = OwnedHost::read(&arguments.name);
    let mut chain = Vec::new();
    for text in &arguments.cnames {
        match DomainName::from_text(text) {
            Ok(name) => chain.push(name),
            Err(error) => bail!("--cname {text:?}: {error}; expected a host name"),
        }
    }
    let mut addresses = arguments.addresses.clone();
    let knows_product = chain.iter().any(|name| view.ranges.cname(name.as_ref()).is_some());
    if addresses.is_empty() && !chain.is_empty() && !knows_product {
        bail!("--cname leads to no product of ranges.cnames; expected --address as well: where it leads");
    }
    let is_given = !addresses.is_empty() || !chain.is_empty();
    let mut is_in_line = !is_given;
    if let OwnedHost::Name(name) = &host
        && !is_given
        && arguments.via != Some(ViaWord::Http)
    {
        let found = zone::resolve(&loaded.config.dns.zones, name, arguments.qtype.as_deref())?;
        notes.extend(found.note);
        is_in_line = found.addresses.is_empty() && found.chain.is_empty();
        (addresses, chain) = (found.addresses, found.chain);
    }
    if is_in_line {
        notes.push("no address: judged as if it stood on a mainland server of ours, behind the gate".to_owned());
    }
    let via = match arguments.via {
        Some(ViaWord::Dns) => Via::Dns,
        Some(ViaWord::Http) => Via::Http,
        None if is_in_line => Via::Http,
        None => Via::Dns,
    };
    Ok(Question { text: arguments.name.clone(), host, addresses, chain, via, is_in_line })
}

/// Types that lead a browser somewhere (rule AMB-15); the rest pass unjudged.
fn is_judged_type(qtype: &str) -> bool {
    ["A", "AAAA", "HTTPS", "SVCB", "ANY"].iter().any(|judged| judged.eq_ignore_ascii_case(qtype))
}

/// The view under which `question` is no web service, for types that are not judged.
fn without_web(view: View, question: &Question, arguments: &Arguments, notes: &mut Vec<String>) -> View {
    let qtype = arguments.qtype.as_deref().unwrap_or("").to_ascii_uppercase();
    notes.push(format!("{qtype} answers lead no browser anywhere: they pass unjudged (rule AMB-15)"));
    let rules = Rules { non_web: question.name().cloned().into_iter().collect(), ..Rules::clone(&view.rules) };
    View { rules: rules.into(), ..view }
}
