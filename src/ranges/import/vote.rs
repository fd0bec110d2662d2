//! The vote: one sweep over the ends of all spans of all sources.

use super::collect::Collected;
use crate::ranges::span::{Family, Space, Span};

/// Where a count changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    at: u128,
    /// By how much the sources that want it change.
    wanted: i32,
    /// By how much those that place it elsewhere change.
    elsewhere: i32,
}

/// The space that at least `votes` sources want and that more want than place elsewhere.
pub(super) fn count(sources: &[Collected], votes: usize) -> Space {
    let needed = i32::try_from(votes).unwrap_or(i32::MAX);
    Space::new(Family::ALL.into_iter().flat_map(|family| {
        let mut steps = Vec::new();
        for source in sources {
            for span in source.wanted.family(family).iter() {
                steps.extend(ends(span).map(|(at, sign)| Step { at, wanted: sign, elsewhere: 0 }));
            }
            for span in source.elsewhere.family(family).iter() {
                steps.extend(ends(span).map(|(at, sign)| Step { at, wanted: 0, elsewhere: sign }));
            }
        }
        steps.sort_unstable();
        sweep(&steps, needed).into_iter().map(move |span| (family, span))
    }))
}

/// Where a span begins and where it has ended. Special-purpose space is left out before, and with it the last address of
/// either family, so that there is always one after.
fn ends(span: Span) -> [(u128, i32); 2] {
    [(span.first, 1), (span.last.saturating_add(1), -1)]
}

/// Walks the steps in order and keeps where the vote is won.
fn sweep(steps: &[Step], needed: i32) -> Vec<Span> {
    let (mut wanted, mut elsewhere) = (0, 0);
    let mut res = Vec::new();
    let mut begun = None;
    for (i, step) in steps.iter().enumerate() {
        wanted += step.wanted;
        elsewhere += step.elsewhere;
        if steps.get(i + 1).is_some_and(|next| next.at == step.at) {
            continue;
        }
        let is_taken = wanted >= needed && wanted > elsewhere;
        match begun {
            None if is_taken => begun = Some(step.at),
            Some(first) if !is_taken => {
                res.push(Span { first, last: step.at - 1 });
                begun = None;
            }
            None | Some(_) => {}
        }
    }
    res
}
