//! Writing: beside the file first, then under its name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::{Circumstances, HEAD, Kind, MAGIC, SigningKey, TABLE_LINE, VERSION, checksum};
use crate::registry::code::{write_number, write_text};
use crate::registry::files::{ChangesFile, Content, TableFile};
use crate::registry::issue::Issue;
use crate::registry::source::Stamp;
use crate::registry::state::{Events, State};

/// Writes `state` to `path`, whole or not at all.
pub fn write(path: &Path, state: &State, circumstances: &Circumstances) -> io::Result<()> {
    write_as(path, state, circumstances, None)
}

/// As [`write()`], signed by `key`.
pub fn write_signed(path: &Path, state: &State, circumstances: &Circumstances, key: &SigningKey) -> io::Result<()> {
    write_as(path, state, circumstances, Some(key))
}

fn write_as(path: &Path, state: &State, circumstances: &Circumstances, key: Option<&SigningKey>) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let name = name.to_string_lossy();
    remove_leftovers(directory, &name);
    let beside = directory.join(format!(".{name}.{}{LEFTOVER}", std::process::id()));
    let written = write_to(&beside, state, circumstances, key).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it helps nobody.
        let _ = fs::remove_file(&beside);
        return written;
    }
    // The rename itself must outlive a power cut.
    File::open(directory)?.sync_all()
}

/// What the name of a file that is being written ends with.
const LEFTOVER: &str = ".tmp";

/// Removes what writers that were killed left beside the file.
fn remove_leftovers(directory: &Path, name: &str) {
    let begin = format!(".{name}.");
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found.starts_with(&begin) && found.ends_with(LEFTOVER) {
            // One that cannot be removed stays; it is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn write_to(path: &Path, state: &State, circumstances: &Circumstances, key: Option<&SigningKey>) -> io::Result<()> {
    let small = small_sections(state, circumstances);
    let chunks = state.table.arena.chunks();
    let blocks: Vec<Vec<u8>> = chunks.iter().map(|chunk| pairs(&chunk.blocks)).collect();
    let mut sections: Vec<(Kind, usize, &[u8])> = Vec::new();
    sections.extend(small.iter().map(|(kind, octets)| (*kind, 0, &octets[..])));
    sections.push((Kind::Base, 0, state.table.base.octets()));
    sections.push((Kind::Overlay, 0, state.table.overlay.octets()));
    for (number, chunk) in chunks.iter().enumerate() {
        sections.push((Kind::Entries, number, &chunk.entries));
        sections.push((Kind::Cold, number, &chunk.cold));
        sections.push((Kind::Blocks, number, &blocks[number]));
    }
    let signature = key.map(|key| {
        let signed = sections.iter().map(|&(kind, number, octets)| (kind as u32, number, octets));
        key.sign(&signed.collect::<Vec<_>>())
    });
    sections.extend(signature.iter().map(|octets| (Kind::Signature, 0, &octets[..])));
    let mut head = Vec::with_capacity(HEAD + sections.len() * TABLE_LINE + 16);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&u32::try_from(sections.len()).map_err(io::Error::other)?.to_le_bytes());
    let mut place = (HEAD + sections.len() * TABLE_LINE + 16) as u64;
    for (kind, number, octets) in &sections {
        head.extend_from_slice(&(*kind as u32).to_le_bytes());
        head.extend_from_slice(&u32::try_from(*number).map_err(io::Error::other)?.to_le_bytes());
        head.extend_from_slice(&place.to_le_bytes());
        head.extend_from_slice(&(octets.len() as u64).to_le_bytes());
        head.extend_from_slice(&checksum(octets));
        place += octets.len() as u64;
    }
    let whole = checksum(&head);
    head.extend_from_slice(&whole);
    let mut file = File::create(path)?;
    file.write_all(&head)?;
    for (_, _, octets) in sections {
        file.write_all(octets)?;
    }
    file.sync_all()
}

fn small_sections(state: &State, circumstances: &Circumstances) -> Vec<(Kind, Vec<u8>)> {
    let mut named = Vec::new();
    for (_, value) in circumstances.named() {
        write_text(&mut named, &value);
    }
    let mut texts = Vec::new();
    let all = state.table.dictionary.all();
    write_number(&mut texts, all.len() as u64);
    all.iter().for_each(|text| write_text(&mut texts, text));
    let mut places = Vec::new();
    write_number(&mut places, state.table.places.files.len() as u64);
    state.table.places.files.iter().for_each(|file| write_text(&mut places, file));
    places.extend(pairs(&state.table.places.blocks));
    vec![
        (Kind::Circumstances, named),
        (Kind::Figures, figures(state)),
        (Kind::Texts, texts),
        (Kind::Places, places),
        (Kind::Files, files(state)),
        (Kind::RowsOf, rows_of(state)),
        (Kind::Events, events(&state.events)),
    ]
}

fn figures(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    let (a, b) = state.table.key.words();
    for number in [a, b, state.key.0, state.key.1, state.table.tally.digest] {
        write_number(&mut out, number);
    }
    state.table.tally.by_status.iter().for_each(|&count| write_number(&mut out, count as u64));
    write_number(&mut out, state.free.len() as u64);
    state.free.iter().for_each(|&number| write_number(&mut out, u64::from(number)));
    out
}

fn pairs(pairs: &[(u32, u32)]) -> Vec<u8> {
    pairs.iter().flat_map(|(a, b)| [a.to_le_bytes(), b.to_le_bytes()]).flatten().collect()
}

fn files(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    write_number(&mut out, state.files.len() as u64);
    for (path, file) in &state.files {
        write_text(&mut out, &path.to_string_lossy());
        let Stamp { octets, identity, changed } = file.stamp;
        for number in [octets, identity.0, identity.1] {
            write_number(&mut out, number);
        }
        out.extend_from_slice(&changed.0.to_le_bytes());
        out.extend_from_slice(&changed.1.to_le_bytes());
        out.push(u8::from(file.is_fresh));
        match &file.content {
            Content::Table(table) => write_table(&mut out, table),
            Content::Changes(changes) => write_changes(&mut out, changes),
        }
    }
    out
}

fn write_table(out: &mut Vec<u8>, table: &TableFile) {
    out.push(0);
    write_text(out, &table.header);
    write_number(out, table.rows as u64);
    write_number(out, table.blocks.len() as u64);
    for block in &table.blocks {
        out.extend(block.hash.iter().flat_map(|word| word.to_le_bytes()));
        for number in [block.number, block.octets, block.lines, block.rows, block.begin, block.end] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    write_number(out, table.findings.len() as u64);
    for (&number, found) in &table.findings {
        write_number(out, u64::from(number));
        write_number(out, u64::from(found.bad_rows));
        write_issues(out, &found.issues);
    }
}

fn write_changes(out: &mut Vec<u8>, changes: &ChangesFile) {
    out.push(1);
    write_text(out, &changes.text);
    for number in [changes.whole_octets, changes.whole_lines as usize, changes.events, changes.bad_lines] {
        write_number(out, number as u64);
    }
    write_issues(out, &changes.issues);
}

fn write_issues(out: &mut Vec<u8>, issues: &[Issue]) {
    write_number(out, issues.len() as u64);
    for issue in issues {
        out.push(issue.severity as u8);
        for text in [issue.rule, &issue.file, &issue.key, &issue.value, &issue.message] {
            write_text(out, text);
        }
        write_number(out, u64::from(issue.line));
        write_number(out, u64::from(issue.column));
    }
}

fn rows_of(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    write_number(&mut out, state.rows_of.len() as u64);
    for (name, rows) in state.rows_of.iter() {
        write_octets(&mut out, name);
        write_number(&mut out, rows.len() as u64);
        rows.iter().for_each(|&row| write_number(&mut out, u64::from(row)));
    }
    write_number(&mut out, state.contested.len() as u64);
    state.contested.iter().for_each(|name| write_octets(&mut out, name));
    out
}

fn events(events: &Events) -> Vec<u8> {
    let mut out = Vec::new();
    write_number(&mut out, events.names.len() as u64);
    events.names.iter().for_each(|name| write_octets(&mut out, name));
    write_issues(&mut out, &events.issues);
    write_number(&mut out, events.last_seq.len() as u64);
    for (path, &seq) in &events.last_seq {
        write_text(&mut out, &path.to_string_lossy());
        write_number(&mut out, seq);
    }
    write_number(&mut out, events.waiting.len() as u64);
    for (at, domain) in &events.waiting {
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        write_number(&mut out, since.as_secs());
        write_octets(&mut out, domain.as_ref().map_or(&[], |domain| domain.wire()));
    }
    write_number(&mut out, events.blocks.len() as u64);
    for (path, &block) in &events.blocks {
        write_text(&mut out, &path.to_string_lossy());
        write_number(&mut out, u64::from(block));
    }
    out
}

fn write_octets(out: &mut Vec<u8>, octets: &[u8]) {
    write_number(out, octets.len() as u64);
    out.extend_from_slice(octets);
}
