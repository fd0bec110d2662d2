//! Plain lists: one prefix, address or `first-last` a line, `#` begins a comment; all of the country.

use super::collect::Collector;
use crate::ranges::prefix::Block;

/// Reads a whole list.
pub(super) fn read(text: &str, into: &mut Collector<'_>) -> Result<(), String> {
    for (i, line) in text.lines().enumerate() {
        let block = line.split('#').next().unwrap_or("").trim();
        if block.is_empty() {
            continue;
        }
        match Block::parse(block) {
            Ok(block) => {
                let (family, span) = block.span();
                into.take(into.country(), family, span)?;
            }
            Err(error) => into.bad(u32::try_from(i + 1).unwrap_or(u32::MAX), block, &error.to_string())?,
        }
    }
    Ok(())
}
