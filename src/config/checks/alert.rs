//! The meaning of `[alert]`.

use super::{Checker, path};
use crate::config::alert;
use crate::config::spec::Spec;
use crate::credentials::client_config;
use crate::ops::alert::{AlertSettings, SyslogPlace, WebhookSettings};

impl Checker<'_> {
    /// Where alerts go.
    pub(super) fn alert(&mut self, spec: &Spec) -> AlertSettings {
        let text = &spec.alert;
        let webhook = self.webhook(spec);
        let syslog: Option<SyslogPlace> = (!text.syslog.is_empty())
            .then(|| alert::syslog(&text.syslog))
            .and_then(|read| read.map_err(|error| self.refuse("alert.syslog", &text.syslog, error)).ok());
        let res = AlertSettings { webhook, syslog };
        if res.is_on() && spec.journal.unfiled.is_empty() {
            self.warn("alert", "journal.unfiled is empty: after each restart every domain is told as new again");
        }
        res
    }

    fn webhook(&mut self, spec: &Spec) -> Option<WebhookSettings> {
        let text = &spec.alert;
        let token = self.token("alert.webhook-token-file", &text.webhook_token_file);
        let roots = path(&text.webhook_ca);
        if let Some(Err(error)) = roots.as_deref().map(|roots| client_config(Some(roots))) {
            self.refuse("alert.webhook-ca", &text.webhook_ca, error);
        }
        if text.webhook.is_empty() {
            if token.is_some() || roots.is_some() {
                self.warn("alert.webhook", "is empty: webhook-token-file and webhook-ca have no effect");
            }
            return None;
        }
        match alert::webhook(&text.webhook) {
            Ok(read) => {
                if read.server_name.is_none() && !read.addr.ip().is_loopback() {
                    self.warn("alert.webhook", "is http: whoever is on the way reads the domains and the token");
                }
                Some(WebhookSettings { roots, token, ..read })
            }
            Err(error) => {
                self.refuse("alert.webhook", &text.webhook, error);
                None
            }
        }
    }
}
