//! What somebody who wrote a number wrongly most likely meant: a proposal for people, never what verdicts read.
//!
//! [`FilingNumber::parse`] repairs what leaves no doubt. What is tried here beyond that (a missing ICP备, letters among
//! digits, a province by its name) is a guess: the row stays refused until somebody writes the number as proposed.

use super::{FilingNumber, NumberError, PROVINCES, canonical_characters};

/// Letter and name of every province in use (rules B.1).
pub const PROVINCE_NAMES: [(char, &str); 31] = [
    ('京', "北京"),
    ('津', "天津"),
    ('冀', "河北"),
    ('晋', "山西"),
    ('蒙', "内蒙古"),
    ('辽', "辽宁"),
    ('吉', "吉林"),
    ('黑', "黑龙江"),
    ('沪', "上海"),
    ('苏', "江苏"),
    ('浙', "浙江"),
    ('皖', "安徽"),
    ('闽', "福建"),
    ('赣', "江西"),
    ('鲁', "山东"),
    ('豫', "河南"),
    ('鄂', "湖北"),
    ('湘', "湖南"),
    ('粤', "广东"),
    ('桂', "广西"),
    ('琼', "海南"),
    ('渝', "重庆"),
    ('蜀', "四川"),
    ('黔', "贵州"),
    ('滇', "云南"),
    ('藏', "西藏"),
    ('陕', "陕西"),
    ('陇', "甘肃"),
    ('青', "青海"),
    ('宁', "宁夏"),
    ('新', "新疆"),
];

/// What follows a province's name in full.
const PROVINCE_ENDINGS: [&str; 6] = ["壮族自治区", "回族自治区", "维吾尔自治区", "自治区", "省", "市"];

/// Headings that are copied together with the number.
const HEADINGS: [&str; 7] = ["网站备案号", "主体备案号", "ICP备案号", "备案序号", "备案号", "许可证号", "ICP许可证号"];

/// Characters that are taken for others: traditional forms, other letters of a province, and letters that look alike.
const MISTAKEN: [(char, char); 26] = [
    ('備', '备'),
    ('證', '证'),
    ('証', '证'),
    ('號', '号'),
    ('晉', '晋'),
    ('遼', '辽'),
    ('滬', '沪'),
    ('申', '沪'),
    ('蘇', '苏'),
    ('淅', '浙'),
    ('閩', '闽'),
    ('贛', '赣'),
    ('魯', '鲁'),
    ('翼', '冀'),
    ('粵', '粤'),
    ('瓊', '琼'),
    ('喻', '渝'),
    ('貴', '贵'),
    ('雲', '云'),
    ('陝', '陕'),
    ('秦', '陕'),
    ('隴', '陇'),
    ('寧', '宁'),
    ('〇', '0'),
    ('○', '0'),
    ('／', '/'),
];

/// The number that `text` most likely means, where it is not written as it should be; `year_max` is the current year.
///
/// `None` for a number that is right, and for text nobody can make a number of. What is proposed parses without repair.
pub fn hint(text: &str, year_max: i32) -> Option<FilingNumber> {
    let written = text.trim();
    let text = written.trim_matches(['"', '\'', '“', '”']);
    match FilingNumber::parse(text, year_max) {
        Ok((number, _)) => Some(number).filter(|number| number.to_text() != written),
        Err(NumberError::PublicSecurity | NumberError::Year(_)) => None,
        Err(_) => {
            let (clean, _) = canonical_characters(text).ok()?;
            guesses(&clean).into_iter().find_map(|guess| is_right(&guess, year_max))
        }
    }
    .filter(|number| is_right(&number.to_text(), year_max).is_some())
}

/// The number of a text that may need the repairs that leave no doubt, in the spelling that needs none.
fn is_right(text: &str, year_max: i32) -> Option<FilingNumber> {
    let (number, _) = FilingNumber::parse(text, year_max).ok()?;
    let (again, repairs) = FilingNumber::parse(&number.to_text(), year_max).ok()?;
    (repairs.is_empty() && again == number).then_some(number)
}

/// Spellings to try, the most careful first.
fn guesses(clean: &str) -> Vec<String> {
    let plain: String = clean
        .chars()
        .map(|c| MISTAKEN.iter().find(|(wrong, _)| *wrong == c).map_or(c, |&(_, right)| right))
        .filter(|c| !matches!(c, '第' | '字' | '(' | '《' | '》' | '【' | '】' | '[' | ']' | '，' | ','))
        .collect();
    let plain = without_heading(&plain);
    let plain = with_province_letter(&plain);
    vec![with_words(&plain), with_words(&with_digits(&plain))]
}

fn without_heading(text: &str) -> String {
    let after = HEADINGS.iter().find_map(|heading| text.strip_prefix(heading)).unwrap_or(text);
    after.trim_start_matches([':', '：']).to_owned()
}

/// Replaces a province's name by its letter.
fn with_province_letter(text: &str) -> String {
    for (letter, name) in PROVINCE_NAMES {
        if let Some(rest) = text.strip_prefix(name) {
            let rest = PROVINCE_ENDINGS.iter().find_map(|ending| rest.strip_prefix(ending)).unwrap_or(rest);
            return format!("{letter}{rest}");
        }
    }
    text.to_owned()
}

/// Replaces letters that look like digits in runs of digits.
fn with_digits(text: &str) -> String {
    /// Digits that make letters beside them doubtful: one alone may be the class of a licence.
    const DIGITS_MIN: usize = 2;
    let all: Vec<char> = text.chars().collect();
    let looks = |c: char| c.is_ascii_digit() || matches!(c, 'O' | 'I' | 'L');
    let mut res = String::new();
    let mut at = 0;
    while at < all.len() {
        let end = all[at..].iter().position(|&c| !looks(c)).map_or(all.len(), |length| at + length);
        if end == at {
            res.push(all[at]);
            at += 1;
            continue;
        }
        let run = &all[at..end];
        let has_digits = run.iter().filter(|c| c.is_ascii_digit()).count() >= DIGITS_MIN
            // A service number begins with a digit.
            || res.ends_with('-');
        res.extend(run.iter().map(|&c| match c {
            'O' if has_digits => '0',
            'I' | 'L' if has_digits => '1',
            c => c,
        }));
        at = end;
    }
    res
}

/// Puts the words of the form where they belong: ICP, 备 or 证, 号, and the dash of the service number.
fn with_words(text: &str) -> String {
    let mut rest = text;
    let mut res = String::new();
    if let Some(first) = rest.chars().next().filter(|first| !first.is_ascii()) {
        res.push(first);
        rest = &rest[first.len_utf8()..];
    }
    let is_province = res.chars().all(|c| PROVINCES.contains(c) || "川贵云甘".contains(c)) && !res.is_empty();
    // Licences of the B2 family have no such words.
    if !is_province || rest.starts_with(['A', 'B', 'D']) {
        return with_dash(text);
    }
    for lookalike in ["ICP", "1CP", "LCP", "IPC", "TCP", "ICB", "ICF", "CP"] {
        if let Some(after) = rest.strip_prefix(lookalike) {
            rest = after;
            break;
        }
    }
    rest = rest.trim_start_matches(['-', ':', '.', '·']);
    let word = ["备案", "备", "许可证", "经营许可证", "证"].into_iter().find(|word| rest.starts_with(word));
    rest = &rest[word.map_or(0, str::len)..];
    let is_licence = word.is_some_and(|word| word.ends_with('证'));
    res.push_str(if is_licence { "ICP证" } else { "ICP备" });
    res.push_str(rest.trim_start_matches(['-', ':', '.', '·', '号']));
    with_dash(&res)
}

/// One 号, then one dash before the service number, whatever stood there.
fn with_dash(text: &str) -> String {
    let Some((main, service)) = text.split_once('号') else { return text.replace("--", "-") };
    let service = service.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if service.is_empty() { format!("{main}号") } else { format!("{main}号-{service}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hinted(text: &str) -> Option<String> {
        hint(text, 2026).map(|number| number.to_text())
    }

    #[test]
    fn what_was_meant_is_proposed() {
        const RIGHT: &str = "京ICP备2021000001号-1";
        for wrong in [
            "京ＩＣＰ备２０２１０００００１号－１",
            "京 ICP 备 2021000001 号 - 1",
            "京icp备2021000001号-1",
            "京ICP备2021000001-1",
            "京ICP备2021000001-1号",
            "京ICP备2021000001号—1",
            "京ICP备2021000001号--1",
            "京ICP备2021000001号1",
            "京ICP备2021000001号/1",
            "京ICP备2021000001号(1)",
            "京ICP备2021000001号-01",
            "京ICP备2O21OOOOO1号-1",
            "京ICP备202100000l号-l",
            "京ICP备案2021000001号-1",
            "京ICP2021000001号-1",
            "京备2021000001号-1",
            "京2021000001号-1",
            "京1CP备2021000001号-1",
            "京lCP备2021000001号-1",
            "京ICP備2021000001號-1",
            "京ICP备第2021000001号-1",
            "京ICP备字2021000001号-1",
            "京ICP备-2021000001号-1",
            "北京ICP备2021000001号-1",
            "北京市ICP备2021000001号-1",
            "ICP备案号：京ICP备2021000001号-1",
            "备案号:京ICP备2021000001号-1",
            "“京ICP备2021000001号-1”",
        ] {
            assert_eq!(hinted(wrong).as_deref(), Some(RIGHT), "{wrong}");
        }
    }

    #[test]
    fn letters_of_provinces_are_told_apart() {
        for (wrong, right) in [
            ("川ICP备2021000001号-1", "蜀ICP备2021000001号-1"),
            ("贵ICP备2021000001号-1", "黔ICP备2021000001号-1"),
            ("貴ICP备2021000001号-1", "黔ICP备2021000001号-1"),
            ("云ICP备2021000001号-1", "滇ICP备2021000001号-1"),
            ("甘ICP备2021000001号-1", "陇ICP备2021000001号-1"),
            ("秦ICP备2021000001号-1", "陕ICP备2021000001号-1"),
            ("申ICP备2021000001号-1", "沪ICP备2021000001号-1"),
            ("广西壮族自治区ICP备2021000001号", "桂ICP备2021000001号"),
            ("新疆维吾尔自治区ICP备2021000001号", "新ICP备2021000001号"),
            ("京ICP许可证030173号", "京ICP证030173号"),
            ("京ICP證030173號", "京ICP证030173号"),
            ("粤b2-20090059", "粤B2-20090059"),
            ("粤B2—20090059—5", "粤B2-20090059-5"),
        ] {
            assert_eq!(hinted(wrong).as_deref(), Some(right), "{wrong}");
        }
    }

    #[test]
    fn of_what_says_too_little_nothing_is_made() {
        for text in
            ["", "京", "号", "京ICP备号", "京ICP备123号", "港ICP备2021000001号", "粤公网安备44030502008569号", "无"]
        {
            assert_eq!(hinted(text), None, "{text}");
        }
    }

    #[test]
    fn every_letter_has_its_name() {
        assert_eq!(PROVINCE_NAMES.map(|(letter, _)| letter).into_iter().collect::<String>(), PROVINCES);
    }

    fn right_number() -> impl Strategy<Value = String> {
        let province = proptest::sample::select(PROVINCES.chars().collect::<Vec<_>>());
        let service = proptest::option::of((1..99_999u32, proptest::sample::select(vec!["", "A", "X"])));
        let body = prop_oneof![
            (0..=26u32, 0..=999_999u32).prop_map(|(year, serial)| format!("ICP备{year:02}{serial:06}号")),
            (1999..=2026u32, 0..=999_999u32).prop_map(|(year, serial)| format!("ICP备{year}{serial:06}号")),
            (0..=999_999u32).prop_map(|serial| format!("ICP证{serial:06}号")),
            (1999..=2026u32, 0..=9_999u32).prop_map(|(year, serial)| format!("B2-{year}{serial:04}")),
        ];
        (province, body, service).prop_map(|(province, body, service)| {
            let service = service.map(|(number, letter)| format!("-{number}{letter}")).unwrap_or_default();
            format!("{province}{body}{service}")
        })
    }

    proptest! {
        #[test]
        fn a_right_number_has_no_hint(right in right_number()) {
            prop_assert_eq!(hinted(&right), None);
        }

        #[test]
        fn a_proposed_number_is_right(text in "[京川港粤 ICPicp备案證证号號Ｂ2B0-9０-９—–\\-:A-Z]{0,24}") {
            if let Some(found) = hint(&text, 2026) {
                let (again, repairs) = FilingNumber::parse(&found.to_text(), 2026).expect("a proposal parses");
                prop_assert_eq!((again, repairs.len()), (found.clone(), 0));
                prop_assert_eq!(hinted(&found.to_text()), None);
            }
        }

        #[test]
        fn what_is_spoilt_on_the_way_is_proposed_whole(right in right_number(), how in 0..6usize) {
            let spoilt = match how {
                0 => right.replace("ICP", "ＩＣＰ"),
                1 => right.chars().flat_map(|c| [c, ' ']).collect(),
                2 => right.replace('-', "—"),
                3 => right.to_lowercase(),
                4 => right.chars().map(|c| if c.is_ascii_digit() {
                    char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c)
                } else { c }).collect(),
                _ => right.replace("ICP备", "ICP備").replace("ICP证", "ICP證").replace('号', "號"),
            };
            if spoilt != right && spoilt.trim() != right {
                prop_assert_eq!(hinted(&spoilt), Some(right));
            }
        }
    }
}
