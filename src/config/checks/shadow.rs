//! The meaning of `[shadow]`.

use super::Checker;
use crate::config::spec::shadow::{ExpiredWord, ForeignMainlandWord, IpSiteWord, ShadowSpec, SwitchWord};
use crate::ops::shadow::ShadowSettings;
use crate::policy::{ExpiredPolicy, ForeignMainland, IpSite, Mode, Rules};
use crate::ranges;
use crate::registry;

impl Checker<'_> {
    /// What the shadow judges by, over the live settings; `None` where nothing is set.
    pub(super) fn shadow(
        &mut self,
        text: &ShadowSpec,
        rules: &Rules,
        registry: &registry::Settings,
        ranges: &ranges::Settings,
    ) -> Option<ShadowSettings> {
        if *text == ShadowSpec::default() {
            return None;
        }
        if rules.mode == Mode::Off {
            self.warn("shadow", "has no effect: with policy.mode = \"off\" nothing is judged");
        }
        let paths = self.paths("shadow.registry-paths", &text.registry_paths);
        let bind_check = match text.bind_check {
            SwitchWord::Live => registry.bind_check,
            SwitchWord::Off => false,
            SwitchWord::On => true,
        };
        let own_registry = (!paths.is_empty() || bind_check != registry.bind_check).then(|| registry::Settings {
            paths: if paths.is_empty() { registry.paths.clone() } else { paths },
            bind_check,
            // The compiled copy is the live registry's.
            snapshot: None,
            snapshot_keys: None,
            ..registry.clone()
        });
        let [mainland, tags, cnames] =
            [("shadow.mainland", &text.mainland), ("shadow.tags", &text.tags), ("shadow.cnames", &text.cnames)]
                .map(|(key, texts)| self.paths(key, texts));
        let is_own = [&mainland, &tags, &cnames].iter().any(|paths| !paths.is_empty());
        let or = |own: Vec<_>, live: &Vec<_>| if own.is_empty() { live.clone() } else { own };
        let own_ranges = is_own.then(|| ranges::Settings {
            mainland: or(mainland, &ranges.mainland),
            tags: or(tags, &ranges.tags),
            cnames: or(cnames, &ranges.cnames),
            ..ranges.clone()
        });
        let mut rules = Rules {
            ip_site: match text.ip_site {
                IpSiteWord::Allow => IpSite::Allow,
                IpSiteWord::Block => IpSite::Block,
                IpSiteWord::Live => rules.ip_site,
                IpSiteWord::Observe => IpSite::Observe,
            },
            foreign_mainland: match text.foreign_mainland {
                ForeignMainlandWord::Ignore => ForeignMainland::Ignore,
                ForeignMainlandWord::Live => rules.foreign_mainland,
                ForeignMainlandWord::Observe => ForeignMainland::Observe,
                ForeignMainlandWord::RequireFiled => ForeignMainland::RequireFiled,
            },
            expired: match text.expired {
                ExpiredWord::Block => ExpiredPolicy::Block,
                ExpiredWord::Live => rules.expired,
                ExpiredWord::Report => ExpiredPolicy::Report,
            },
            ..rules.clone()
        };
        if text.without_exemptions {
            rules.exempt.clear();
            rules.non_web.clear();
        }
        Some(ShadowSettings { rules, registry: own_registry, ranges: own_ranges })
    }
}
