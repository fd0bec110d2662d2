//! Data the checks compare rows with: approved suffixes, provinces and their limits, words, categories, registrars.
//!
//! Each list is dated (a comment with `Date: YYYY-MM-DD`), compiled in, and replaced by a file of the settings, which is
//! read anew for every pass. A list that cannot be read refuses the pass and says which line; it stops no gate.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::number::letter_in_use;
use crate::model::{Day, DomainName, NameRef};
use crate::registry::source::{read_file_within, utf8_marked};

/// Octets of one list; the longest known has under 3 KB.
const LIST_OCTETS_MAX: u64 = 4 << 20;

/// Where each list comes from; `None` means the compiled-in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListSettings {
    /// Suffixes under which domains can be filed (rule R1).
    pub suffixes: Option<PathBuf>,
    /// Provinces and their limits (rules R7, R14b, R15).
    pub provinces: Option<PathBuf>,
    /// Words that no site name has (rule R11).
    pub naming_words: Option<PathBuf>,
    /// Categories with rules of their own (rules R10, R12, R13).
    pub categories: Option<PathBuf>,
    /// Approved registrars (rule R2).
    pub registrars: Option<PathBuf>,
    /// Service codes of one server (rule R17); 0 where no limit is known.
    pub codes_per_server: usize,
}

impl ListSettings {
    /// Files to watch.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.suffixes, &self.provinces, &self.naming_words, &self.categories, &self.registrars].into_iter().flatten()
    }
}

/// Why a list cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{file}:{line}: {message}")]
pub struct ListError {
    /// The file, or the name of the compiled-in list.
    pub file: String,
    /// The line from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A list in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListDate {
    /// The key of the configuration.
    pub key: &'static str,
    /// The file; empty for the compiled-in list.
    pub file: String,
    /// As of when it holds.
    pub date: Day,
    /// Entries.
    pub entries: usize,
}

/// A province with its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Province {
    /// The letter of its numbers.
    pub letter: char,
    /// Its name.
    pub name: String,
    /// Sites of one subject.
    pub sites_per_subject: Option<usize>,
    /// Sites of one account.
    pub sites_per_account: Option<usize>,
    /// True where a person of another province needs a residence permit.
    pub asks_residence_permit: bool,
}

/// What a category asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CategoryKind {
    /// An approval before the filing (rule R12).
    Approval,
    /// Not filed any more since a day (rule R13).
    Forum(Option<Day>),
    /// A unit as subject (rule R10).
    Organisation,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Lists {
    /// Names under which domains can be filed.
    suffixes: HashSet<DomainName>,
    /// The date of those.
    pub suffixes_since: Day,
    /// All of them.
    pub provinces: Vec<Province>,
    /// Words no site name has.
    pub naming_words: Vec<String>,
    categories: HashMap<String, CategoryKind>,
    /// Approved registrars; none where the rule is not checked.
    pub registrars: HashSet<String>,
    /// Service codes of one server; 0 where no limit is known.
    pub codes_per_server: usize,
    /// What is in use, for people.
    pub dates: Vec<ListDate>,
}

/// A list's text without comments, with its date.
struct ListText {
    file: String,
    date: Day,
    /// Lines with their numbers.
    lines: Vec<(usize, String)>,
}

impl ListText {
    fn read(path: Option<&Path>, name: &str, built_in: &str) -> Result<Self, ListError> {
        let Some(path) = path else {
            return Self::parse(format!("conf/lists/{name}"), built_in);
        };
        let file = path.display().to_string();
        let text = read_file_within(path, LIST_OCTETS_MAX).and_then(utf8_marked);
        let text = text.map_err(|error| ListError { file: file.clone(), line: 0, message: error.to_string() })?;
        Self::parse(file, &text)
    }

    fn parse(file: String, text: &str) -> Result<Self, ListError> {
        let (mut date, mut lines) = (None, Vec::new());
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                let found = comment.trim().strip_prefix("Date:").map(str::trim);
                let found = found.and_then(|text| text.get(..10)).map(Day::parse);
                date = date.or(found.and_then(Result::ok));
            } else if !line.is_empty() {
                lines.push((number, line.to_owned()));
            }
        }
        match date {
            Some(date) => Ok(Self { file, date, lines }),
            None => Err(ListError {
                file,
                line: 0,
                message: "has no date; expected a comment such as # Date: 2026-11-24".to_owned(),
            }),
        }
    }

    fn error(&self, line: usize, message: impl Into<String>) -> ListError {
        ListError { file: self.file.clone(), line, message: message.into() }
    }

    /// The cells of a small table under `header`.
    fn cells<const N: usize>(&self, header: [&str; N]) -> Result<Vec<(usize, [String; N])>, ListError> {
        let mut res = Vec::new();
        for (i, (number, line)) in self.lines.iter().enumerate() {
            let cells: Vec<String> = line.split(',').map(|cell| cell.trim().to_owned()).collect();
            let expected = || self.error(*number, format!("expected the columns {}", header.join(",")));
            let cells: [String; N] = cells.try_into().map_err(|_| expected())?;
            match (i, cells == header.map(str::to_owned)) {
                (0, false) => return Err(expected()),
                (0, true) => {}
                (_, _) => res.push((*number, cells)),
            }
        }
        Ok(res)
    }

    fn date(&self, key: &'static str, path: Option<&PathBuf>, entries: usize) -> ListDate {
        let file = path.map(|path| path.display().to_string()).unwrap_or_default();
        ListDate { key, file, date: self.date, entries }
    }
}

impl Lists {
    /// Those compiled in.
    pub fn built_in() -> Self {
        Self::load(&ListSettings::default()).expect("the compiled-in lists are sound: a test reads them")
    }

    /// Reads the lists of the settings.
    pub fn load(settings: &ListSettings) -> Result<Self, ListError> {
        let suffixes = ListText::read(
            settings.suffixes.as_deref(),
            "approved-suffixes.txt",
            include_str!("../../../conf/lists/approved-suffixes.txt"),
        )?;
        let provinces = ListText::read(
            settings.provinces.as_deref(),
            "provinces.csv",
            include_str!("../../../conf/lists/provinces.csv"),
        )?;
        let words = ListText::read(
            settings.naming_words.as_deref(),
            "naming-words.txt",
            include_str!("../../../conf/lists/naming-words.txt"),
        )?;
        let categories = ListText::read(
            settings.categories.as_deref(),
            "categories.csv",
            include_str!("../../../conf/lists/categories.csv"),
        )?;
        let registrars = ListText::read(
            settings.registrars.as_deref(),
            "registrars.txt",
            include_str!("../../../conf/lists/registrars.txt"),
        )?;
        let mut res = Self {
            suffixes: read_suffixes(&suffixes)?,
            suffixes_since: suffixes.date,
            provinces: read_provinces(&provinces)?,
            naming_words: words.lines.iter().map(|(_, word)| word.clone()).collect(),
            categories: read_categories(&categories)?,
            registrars: registrars.lines.iter().map(|(_, name)| name.clone()).collect(),
            codes_per_server: settings.codes_per_server,
            dates: Vec::new(),
        };
        res.dates = vec![
            suffixes.date("registry.lint.suffixes", settings.suffixes.as_ref(), res.suffixes.len()),
            provinces.date("registry.lint.provinces", settings.provinces.as_ref(), res.provinces.len()),
            words.date("registry.lint.naming-words", settings.naming_words.as_ref(), res.naming_words.len()),
            categories.date("registry.lint.categories", settings.categories.as_ref(), res.categories.len()),
            registrars.date("registry.lint.registrars", settings.registrars.as_ref(), res.registrars.len()),
        ];
        Ok(res)
    }

    /// True when domains can be filed below `suffix`.
    pub fn is_approved(&self, suffix: NameRef<'_>) -> bool {
        let mut at = Some(suffix).filter(|name| !name.is_root());
        while let Some(name) = at {
            if self.suffixes.contains(name.wire()) {
                return true;
            }
            at = name.parent().filter(|name| !name.is_root());
        }
        false
    }

    /// The province that a cell names: by its letter or one that people write instead, or by its name with or without 省
    /// and the like.
    pub fn province(&self, cell: &str) -> Option<&Province> {
        let cell = cell.trim();
        let mut letters = cell.chars();
        let only = letter_in_use(cell).or_else(|| letters.next().filter(|_| letters.next().is_none()));
        self.provinces.iter().find(|known| Some(known.letter) == only || cell.starts_with(&known.name))
    }

    /// The province of a letter.
    pub fn province_of(&self, letter: char) -> Option<&Province> {
        self.provinces.iter().find(|known| known.letter == letter)
    }

    /// What a category asks for, if it is one of the list.
    pub fn category(&self, cell: &str) -> Option<CategoryKind> {
        self.categories.get(cell.trim()).copied()
    }
}

fn read_suffixes(text: &ListText) -> Result<HashSet<DomainName>, ListError> {
    let read = |(line, name): &(usize, String)| {
        DomainName::from_text(name).map_err(|error| text.error(*line, format!("{name:?}: {error}; expected a suffix")))
    };
    text.lines.iter().map(read).collect()
}

fn read_provinces(text: &ListText) -> Result<Vec<Province>, ListError> {
    const HEADER: [&str; 5] = ["letter", "name", "sites_per_subject", "sites_per_account", "residence_permit"];
    let limit = |line: usize, cell: &str| match cell {
        "-" => Ok(None),
        number => match number.parse::<usize>() {
            Ok(limit) if limit > 0 => Ok(Some(limit)),
            _ => Err(text.error(line, format!("{number:?}: expected a limit from 1, or - for none"))),
        },
    };
    let mut res: Vec<Province> = Vec::new();
    for (line, [letter, name, sites_per_subject, sites_per_account, permit]) in text.cells(HEADER)? {
        let mut letters = letter.chars();
        let (Some(letter), None) = (letters.next(), letters.next()) else {
            return Err(text.error(line, format!("{letter:?}: expected one letter, such as 京")));
        };
        let asks_residence_permit = match permit.as_str() {
            "yes" => true,
            "no" => false,
            other => return Err(text.error(line, format!("{other:?}: expected yes or no"))),
        };
        let (sites_per_subject, sites_per_account) =
            (limit(line, &sites_per_subject)?, limit(line, &sites_per_account)?);
        res.push(Province { letter, name, sites_per_subject, sites_per_account, asks_residence_permit });
    }
    Ok(res)
}

fn read_categories(text: &ListText) -> Result<HashMap<String, CategoryKind>, ListError> {
    let mut res = HashMap::new();
    for (line, [category, kind, since]) in text.cells(["category", "kind", "since"])? {
        let since = match since.as_str() {
            "-" => None,
            day => Some(Day::parse(day).map_err(|error| text.error(line, format!("{day:?}: {error}, or -")))?),
        };
        let kind = match kind.as_str() {
            "approval" => CategoryKind::Approval,
            "forum" => CategoryKind::Forum(since),
            "organisation" => CategoryKind::Organisation,
            other => return Err(text.error(line, format!("{other:?}: expected approval, forum or organisation"))),
        };
        res.insert(category, kind);
    }
    Ok(res)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::number::PROVINCE_NAMES;

    #[test]
    fn compiled_in_lists_are_sound_and_dated() {
        let lists = Lists::built_in();
        assert_eq!(lists.dates.len(), 5);
        let known: Vec<(char, &str)> =
            lists.provinces.iter().map(|known| (known.letter, known.name.as_str())).collect();
        assert_eq!(known, PROVINCE_NAMES);
        assert_eq!(lists.province("湖北省").and_then(|found| found.sites_per_account), Some(1));
        assert_eq!(lists.province("京").map(|found| found.letter), Some('京'));
        assert!(lists.province("港").is_none());
        for (written, letter) in [("川", '蜀'), ("贵", '黔'), ("云", '滇'), (" 甘 ", '陇'), ("云南省", '滇')]
        {
            assert_eq!(lists.province(written).map(|found| found.letter), Some(letter), "{written}");
        }
        assert_eq!(lists.category("新闻"), Some(CategoryKind::Approval));
    }

    #[test]
    fn lists_that_are_wrong_say_where() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().join("list");
        let loaded = |text: &str, set: fn(&mut ListSettings, PathBuf)| {
            std::fs::write(&path, text).expect("writes");
            let mut settings = ListSettings::default();
            set(&mut settings, path.clone());
            Lists::load(&settings).map(|_| ()).map_err(|error| (error.line, error.message))
        };
        let provinces: fn(&mut ListSettings, PathBuf) = |settings, path| settings.provinces = Some(path);
        let categories: fn(&mut ListSettings, PathBuf) = |settings, path| settings.categories = Some(path);
        let suffixes: fn(&mut ListSettings, PathBuf) = |settings, path| settings.suffixes = Some(path);
        const HEAD: &str = "# Date: 2026-01-01\nletter,name,sites_per_subject,sites_per_account,residence_permit\n";
        for (text, set, line, part) in [
            ("cn\n".to_owned(), suffixes, 0, "has no date"),
            ("# Date: 2026-01-01\na..b\n".to_owned(), suffixes, 2, "expected a suffix"),
            ("# Date: 2026-01-01\nletter\n".to_owned(), provinces, 2, "expected the columns letter,name"),
            (format!("{HEAD}京,北京,0,-,no\n"), provinces, 3, "expected a limit from 1"),
            (format!("{HEAD}京京,北京,1,-,no\n"), provinces, 3, "expected one letter"),
            (format!("{HEAD}京,北京,1,-,maybe\n"), provinces, 3, "expected yes or no"),
            ("# Date: 2026-01-01\ncategory,kind,since\na,b,-\n".to_owned(), categories, 3, "expected approval"),
            ("# Date: 2026-01-01\ncategory,kind,since\na,forum,x\n".to_owned(), categories, 3, "not a calendar day"),
        ] {
            let (found, message) = loaded(&text, set).expect_err(part);
            assert_eq!((found, message.contains(part)), (line, true), "{message}");
        }
    }
}
