//! The data as of another day: events that are dated later wait, provisional access and registrations end by it.
//!
//! Files say what is so today. What they said on a day gone by nobody kept, so a note tells where that may matter.

use std::time::{Duration, SystemTime};

use crate::model::{Day, DomainName, Status};
use crate::policy::View;
use crate::policy::explain::with_row;
use crate::registry::{Filing, Settings};

/// Noon of `day` in the authority's time zone. A compiled copy holds the events of today, so it is left aside; numbers of
/// years after `day` are no reason to refuse a table.
pub fn time(settings: &mut Settings, day: Day) -> SystemTime {
    settings.snapshot = None;
    settings.max_bad_rows = usize::MAX;
    day.begins_at() + Duration::from_secs(12 * 3600)
}

/// The view in which a row that was filed after `day` is not filed yet.
pub fn view(view: View, provider: &str, name: Option<&DomainName>, day: Day, notes: &mut Vec<String>) -> View {
    notes.push(format!("as of {day}: dated events and rows count as of that day, all else as the files say it today"));
    let domain = name.and_then(|name| view.registry.suffixes().registrable(name.as_ref()));
    let row = domain.and_then(|domain| view.registry.find(domain)).map(|id| view.registry.filing(id));
    let Some(row) = row else { return view };
    if let Some(updated) = row.updated_on.filter(|updated| *updated > day) {
        notes.push(format!("the row was updated on {updated}; what it said on {day} no file tells"));
    }
    match row.filed_on.filter(|filed| *filed > day && row.status == Status::Active) {
        Some(filed) => {
            notes.push(format!("the row was filed on {filed}: not yet on {day}"));
            with_row(&view, provider, Some(Filing { status: Status::Pending, ..row }))
        }
        None => view,
    }
}
