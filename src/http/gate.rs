//! From a request's host to what becomes of it: the HTTP plane's one place where verdicts are asked for and acted on.
//!
//! One view a request, taken once (D-H31). The verdict rests on the host alone: no forwarding field (D-H24), no method
//! (D-H29) and no path changes it, but for the ACME carve-out, which is off unless configured (D-H30).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Counters;
use super::certificates::Certificates;
use super::changes::Changes;
use super::dates::registry_time;
use super::host::HostName;
use super::http2::StreamPlaces;
use super::negotiate::{Format, Language};
use super::origin::{Outgoing, Resolver, ResolverError};
use super::page::{Fill, Notice, OpenName, Pages, Rendered, Slot, is_web_url, redirect};
use super::reply::{Answer, AnswerField, Body};
use super::settings::{Origin, Settings};
use super::tls::Pipes;
use crate::chance;
use crate::drain::DrainWatch;
use crate::model::{Hop, Subject, Via};
use crate::policy::sink::received_host;
use crate::policy::{Action, Reason, Rule, SharedView, Sink, Stance, Verdict, VerdictRecord, View};

/// Octets of rendered pages kept: four thousand decisions' pages. To render one costs as much as to send it.
const PAGES_OCTETS_MAX: u64 = 32 << 20;
/// Longest token of an ACME challenge; RFC 8555 section 8.3 asks for at least 22 characters, authorities send 43.
const ACME_TOKEN_OCTETS_MAX: usize = 128;
/// Where ACME challenges are (RFC 8555 section 8.3).
const ACME_PREFIX: &[u8] = b"/.well-known/acme-challenge/";

/// What a request asks, as far as the gate cares.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whom for.
    pub host: &'a HostName,
    /// The host as written, without its port.
    pub shown: &'a str,
    /// Whose question it is.
    pub client: IpAddr,
    /// The address the client reached.
    pub reached: IpAddr,
    /// The path, of a GET or HEAD without a body; `None` for any other request.
    pub plain_path: Option<&'a [u8]>,
}

/// What is to become of a request.
pub enum Decision {
    /// It is answered with a page.
    Block(Box<Blocked>),
    /// It goes to the origin as an ACME challenge, with a bounded answer.
    CarveOut,
    /// It is answered 503: there are no data to judge with.
    NotReady,
    /// It goes to the origin.
    Pass,
}

/// A verdict that is carried out, with what it was reached on.
pub struct Blocked {
    /// The verdict.
    pub verdict: Verdict,
    view: Arc<View>,
    now: SystemTime,
}

/// How the page is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The host as written.
    pub shown: &'a str,
    /// The client.
    pub client: IpAddr,
    /// Language it reads.
    pub language: Language,
    /// Format it takes.
    pub format: Format,
}

/// The HTTP plane without its sockets.
pub struct Gate {
    settings: Settings,
    view: SharedView,
    sink: Sink,
    counters: Arc<Counters>,
    pages: ArcSwap<Pages>,
    pages_generation: AtomicU64,
    rendered: Cache<PageKey, Arc<Rendered>, ByOctets>,
    certificates: ArcSwap<Certificates>,
    streams: StreamPlaces,
    via: String,
    resolver: Option<Resolver>,
    outgoing: Outgoing,
    pipes: Pipes,
    changes: Changes,
}

impl Gate {
    /// A gate that answers from `pages`.
    ///
    /// Errors: name servers of origins that cannot be asked.
    pub fn new(
        settings: Settings,
        view: SharedView,
        sink: Sink,
        counters: Arc<Counters>,
        pages: Pages,
    ) -> Result<Self, ResolverError> {
        /// A page of the usual size.
        const PAGE_OCTETS: u64 = 8 << 10;
        let items = usize::try_from(PAGES_OCTETS_MAX / PAGE_OCTETS).unwrap_or(1);
        let rendered = Cache::with_weighter(items, PAGES_OCTETS_MAX, ByOctets);
        let pages = ArcSwap::from_pointee(pages);
        // Of this process alone, so that a request that comes round is told from one that came through another gate.
        let [word] = chance::words();
        let via = format!("icpgate-{:08x}", word as u32);
        let resolver = match &settings.origin {
            Origin::Resolve(servers) => Some(Resolver::new(servers)?),
            Origin::Fixed(_) | Origin::OriginalDst => None,
        };
        let streams = StreamPlaces::new(&settings);
        Ok(Self {
            settings,
            view,
            sink,
            counters,
            pages,
            pages_generation: AtomicU64::new(0),
            rendered,
            certificates: ArcSwap::from_pointee(Certificates::default()),
            streams,
            via,
            resolver,
            outgoing: Outgoing::default(),
            pipes: Pipes::default(),
            changes: Changes::default(),
        })
    }

    /// Who tells where names lead, where that is asked for.
    pub fn resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }

    /// The connections to origins, where one may come back.
    pub fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// Pipes for TLS that is passed on.
    pub fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    /// The news of changed verdicts.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Watches for changed verdicts until the plane stops.
    pub async fn watch_changes(&self, drain: DrainWatch) {
        self.changes.watch(&self.view, drain).await;
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The counters, for those who outlive a borrow.
    pub fn shared_counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        self.view.now()
    }

    /// Replaces the page templates; the next page is rendered from the new ones.
    pub fn replace_pages(&self, pages: Pages) {
        self.pages.store(Arc::new(pages));
        self.pages_generation.fetch_add(1, Ordering::Release);
        self.rendered.clear();
    }

    /// The certificates by which TLS may end here.
    pub fn certificates(&self) -> Guard<Arc<Certificates>> {
        self.certificates.load()
    }

    /// Replaces the certificates; the next handshake is made with the new ones.
    pub fn replace_certificates(&self, certificates: Certificates) {
        self.certificates.store(Arc::new(certificates));
    }

    /// The places for streams of HTTP/2 that are passed on.
    pub fn streams(&self) -> &StreamPlaces {
        &self.streams
    }

    /// Our name in `Via` (RFC 9110 section 7.6.3): a pseudonym of this process.
    pub fn via(&self) -> &str {
        &self.via
    }

    //--- Judging -----------------------------------------------------------------------------------------------------

    /// Judges a request, counts and reports the verdict.
    pub fn decide(&self, asked: &Asked<'_>) -> Decision {
        self.decide_via(Via::Http, asked)
    }

    /// Judges what came by a plane: a request, or a connection by the name in its first octets.
    pub fn decide_via(&self, via: Via, asked: &Asked<'_>) -> Decision {
        // Nothing waits in here, so the view is borrowed, and shared only with a page or a record.
        let view = self.view.load();
        let stance = view.stance();
        match stance {
            Stance::Off => return Decision::Pass,
            Stance::NotReady => return Decision::NotReady,
            Stance::Enforce | Stance::Observe => {}
        }
        let now = self.view.now();
        let verdict = judge(&view, via, asked.host, asked.reached, now);
        self.counters.verdict(via, &verdict);
        let blocks = stance == Stance::Enforce && verdict.blocks();
        let carved_out = blocks && self.settings.acme_carve_out && is_acme_challenge(asked, &verdict);
        let is_for_real = verdict.action == Action::Allow || verdict.enforceable;
        let enforced = stance == Stance::Enforce && is_for_real && !carved_out;
        let shadow = view.beside(via, &verdict, |other| judge(other, via, asked.host, asked.reached, now));
        if self.sink.wants(verdict.action) || (shadow.is_some() && self.sink.is_open()) {
            self.sink.send(VerdictRecord {
                at: now,
                via,
                client: asked.client,
                name: asked.host.name().cloned(),
                received: matches!(asked.host, HostName::Invalid).then(|| received_host(asked.shown.as_bytes())),
                verdict,
                enforced,
                shadow,
                view: Arc::clone(&view),
            });
        }
        match (blocks, carved_out) {
            (false, _) => Decision::Pass,
            (true, true) => Decision::CarveOut,
            (true, false) => Decision::Block(Box::new(Blocked { verdict, view: Arc::clone(&view), now })),
        }
    }

    /// True while an open stream of `host` may go on; asked again and again, without a report.
    ///
    /// A gate that lost its data ends no stream: it was judged when it began.
    pub fn still_passes(&self, host: &HostName, reached: IpAddr) -> bool {
        let view = self.view.load();
        view.stance() != Stance::Enforce || !judge(&view, Via::Http, host, reached, self.view.now()).blocks()
    }

    //--- Answering ---------------------------------------------------------------------------------------------------

    /// The answer to a blocked request.
    pub fn block_answer(&self, blocked: &Blocked, request: &PageRequest<'_>) -> Answer {
        let block = &self.settings.block;
        let fill = fill(blocked, request);
        let mut fields = self.block_fields(blocked, &fill);
        if matches!(block.status, 302 | 307) && !block.redirect.is_empty() {
            let location = redirect::fill(&block.redirect, &self.notice(blocked, request));
            fields.push(("Location", location.into()));
            let content_type = Format::Text.content_type();
            return Answer { status: block.status, now: blocked.now, content_type, fields, body: Body::Empty };
        }
        fields.push(("Content-Language", request.language.tag().into()));
        fields.push(("Vary", "Accept, Accept-Language".into()));
        fields.push(("X-Content-Type-Options", "nosniff".into()));
        if request.format == Format::Html {
            // The page needs nothing from anywhere, and nothing may be put into it.
            fields.push(("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'".into()));
        }
        Answer {
            status: self.page_status(),
            now: blocked.now,
            content_type: request.format.content_type(),
            fields,
            body: Body::Page(self.rendered(blocked, request), fill),
        }
    }

    /// The 503 of a gate without data.
    pub fn not_ready_answer(&self) -> Answer {
        let why = "the filing gate has no data to judge with yet / 备案数据尚未就绪";
        Answer::short(503, self.now(), why)
    }

    /// The status of pages; a redirect without a place to go to is a page.
    fn page_status(&self) -> u16 {
        let block = &self.settings.block;
        if matches!(block.status, 302 | 307) && block.redirect.is_empty() { 451 } else { block.status }
    }

    /// The fields every answer to a blocked request has.
    fn block_fields(&self, blocked: &Blocked, fill: &Fill) -> Vec<AnswerField> {
        let mut res = Vec::with_capacity(8);
        res.push(("Cache-Control", "no-store".into()));
        let mut why = String::with_capacity(128);
        why.extend(["reason=", blocked.verdict.reason.label()]);
        if !fill.of(Slot::Id).is_empty() {
            why.extend(["; domain=", fill.of(Slot::Domain), "; id=", fill.of(Slot::Id)]);
        }
        res.push(("X-ICP-Gate", why.into()));
        let provider = &self.settings.provider;
        let blocker = [&provider.url, &provider.contact].into_iter().find(|url| is_web_url(url));
        if let Some(url) = blocker.filter(|_| self.page_status() == 451) {
            // The entity that blocks, "not any other entity mandating it" (RFC 7725 section 4).
            res.push(("Link", format!("<{url}>; rel=\"blocked-by\"").into()));
        }
        res
    }

    fn notice(&self, blocked: &Blocked, request: &PageRequest<'_>) -> Notice {
        Notice::new(&blocked.verdict, request.host, request.shown, &blocked.view)
    }

    /// The page for this decision, kept from before or rendered now.
    fn rendered(&self, blocked: &Blocked, request: &PageRequest<'_>) -> Arc<Rendered> {
        let open = self.open_name(blocked, request);
        let key = PageKey {
            of: match (open, request.host) {
                (Some(kind), _) => PageOf::Rule(blocked.verdict.rule, kind),
                // A request without Host shows the address it reached.
                (None, HostName::Address(addr)) => PageOf::Shown(addr.to_string().into_boxed_str()),
                (None, HostName::Invalid | HostName::Name(_)) => {
                    PageOf::Shown(request.shown.to_ascii_lowercase().into_boxed_str())
                }
            },
            reason: blocked.verdict.reason,
            generations: blocked.view.generations(),
            pages_generation: self.pages_generation.load(Ordering::Acquire),
            language: request.language,
            format: request.format,
        };
        if let Some(rendered) = self.rendered.get(&key) {
            return rendered;
        }
        let notice = match open {
            Some(kind) => Notice::open(&blocked.verdict, kind, &blocked.view),
            None => self.notice(blocked, request),
        };
        let rendered = Arc::new(self.render(&notice, request));
        self.rendered.insert(key, rendered.clone());
        rendered
    }

    /// The kind of the name, where one page serves all of that kind.
    fn open_name(&self, blocked: &Blocked, request: &PageRequest<'_>) -> Option<OpenName> {
        let name = request.host.name().filter(|_| self.pages.load().leave_names_open(request.format))?;
        OpenName::of(&blocked.verdict, name.as_ref())
    }

    /// Renders by the operator's templates, else by the compiled-in ones.
    fn render(&self, notice: &Notice, request: &PageRequest<'_>) -> Rendered {
        let (provider, status) = (&self.settings.provider, self.page_status());
        let pages = self.pages.load_full();
        pages.render(notice, provider, status, request.language, request.format).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot render the block page, saying less");
            Rendered::plain(notice, request.language, request.format)
        })
    }
}

/// What is put into a page for one request.
fn fill(blocked: &Blocked, request: &PageRequest<'_>) -> Fill {
    let (time, client) = (registry_time(blocked.now), request.client.to_canonical());
    match request.host.name().map(|name| name.as_ref()) {
        None => Fill::new([&time, &client, &"", &"", &""]),
        Some(name) => {
            let domain = blocked.verdict.registrable(name).unwrap_or(name);
            Fill::of_name(&time, &client, name, domain, &blocked.verdict.id(name))
        }
    }
}

fn judge(view: &View, via: Via, host: &HostName, reached: IpAddr, now: SystemTime) -> Verdict {
    // The address reached tells nothing in line, for it may be a balancer's, or translated on the way; unless the operator
    // says that filings are bound to theirs.
    let hop = if view.registry.has_bind_check() { Hop::InLineAt(reached) } else { Hop::InLine };
    view.judge(&Subject { host: host.as_host(), hop, via }, now)
}

/// True for a request that a certificate authority would send to check control of a name that lacks only its filing.
fn is_acme_challenge(asked: &Asked<'_>, verdict: &Verdict) -> bool {
    let is_unfiled = matches!(verdict.reason, Reason::NotFiled | Reason::NotAccessed);
    let token = asked.plain_path.and_then(|path| path.strip_prefix(ACME_PREFIX)).unwrap_or_default();
    let is_base64url = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    is_unfiled && !token.is_empty() && token.len() <= ACME_TOKEN_OCTETS_MAX && token.iter().all(is_base64url)
}

//--- Rendered pages --------------------------------------------------------------------------------------------------

/// Everything a rendered page depends on; the row and rule follow from host, reason and generations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PageKey {
    of: PageOf,
    reason: Reason,
    generations: (u64, u64),
    pages_generation: u64,
    language: Language,
    format: Format,
}

/// What a page is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PageOf {
    /// All names of a kind that a rule blocks.
    Rule(Rule, OpenName),
    /// What was asked for.
    Shown(Box<str>),
}

impl PageOf {
    fn octets(&self) -> usize {
        match self {
            Self::Rule(..) => 0,
            Self::Shown(shown) => shown.len(),
        }
    }
}

#[derive(Clone)]
struct ByOctets;

impl Weighter<PageKey, Arc<Rendered>> for ByOctets {
    fn weight(&self, key: &PageKey, rendered: &Arc<Rendered>) -> u64 {
        (key.of.octets() + rendered.kept_octets()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acme_challenges_are_told_by_their_exact_path() {
        let host = HostName::Invalid;
        let asked = |path| Asked {
            host: &host,
            shown: "",
            client: IpAddr::from([127, 0, 0, 1]),
            reached: IpAddr::from([127, 0, 0, 1]),
            plain_path: path,
        };
        let view_verdict = |reason: Reason| Verdict {
            action: reason.action(),
            reason,
            rule: Rule::B1,
            enforceable: true,
            registrable_at: None,
            filing: None,
            address: None,
            range: None,
            mixed: false,
            registry_generation: 1,
            ranges_generation: 1,
        };
        let is = |path: &'static str, reason| is_acme_challenge(&asked(Some(path.as_bytes())), &view_verdict(reason));
        assert!(is("/.well-known/acme-challenge/abc_-9", Reason::NotFiled));
        assert!(is("/.well-known/acme-challenge/abc", Reason::NotAccessed));
        for path in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/../../admin",
            "/.well-known/acme-challenge/a?b",
            "/.well-known/acme-challenge/a/b",
            "/.well-known/acme-challenge/%61",
            "/.Well-Known/acme-challenge/a",
            "/x/.well-known/acme-challenge/a",
        ] {
            assert!(!is(path, Reason::NotFiled), "{path}");
        }
        assert!(!is("/.well-known/acme-challenge/abc", Reason::Restricted));
        assert!(!is_acme_challenge(&asked(None), &view_verdict(Reason::NotFiled)));
    }
}
