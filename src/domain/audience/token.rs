//! Lexical analysis of an expression.

use crate::domain::audience::syntax::{Comparison, ExpressionFault};

/// A token with its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    /// Character at which it begins, counted from 1.
    pub(super) position: usize,
    pub(super) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Open,
    Close,
    Comma,
    Comparison(Comparison),
    And,
    Or,
    Not,
    In,
    Is,
    Missing,
    Number(f64),
    Text(String),
    Name(String),
    End,
}

impl TokenKind {
    /// The token in words, for faults.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Open => "`(`".into(),
            Self::Close => "`)`".into(),
            Self::Comma => "`,`".into(),
            Self::Comparison(_) => "a comparison".into(),
            Self::And => "`and`".into(),
            Self::Or => "`or`".into(),
            Self::Not => "`not`".into(),
            Self::In => "`in`".into(),
            Self::Is => "`is`".into(),
            Self::Missing => "`missing`".into(),
            Self::Number(_) => "a number".into(),
            Self::Text(_) => "a text".into(),
            Self::Name(name) => format!("`{name}`"),
            Self::End => "the end".into(),
        }
    }

    fn of_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "and" => Self::And,
            "or" => Self::Or,
            "not" => Self::Not,
            "in" => Self::In,
            "is" => Self::Is,
            "missing" => Self::Missing,
            _ => Self::Name(word.to_owned()),
        }
    }
}

/// Splits an expression into tokens; the last one is [`TokenKind::End`].
pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, ExpressionFault> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = chars.get(at).copied() {
        if first.is_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        let (kind, end) = read_token(&chars, at)?;
        at = end;
        tokens.push(Token { position: start + 1, kind });
    }
    tokens.push(Token { position: chars.len() + 1, kind: TokenKind::End });
    Ok(tokens)
}

/// The token that begins at `start`, and the index after it.
fn read_token(chars: &[char], start: usize) -> Result<(TokenKind, usize), ExpressionFault> {
    let first = chars[start];
    let second = chars.get(start + 1).copied();
    let comparison = |kind, length| Ok((TokenKind::Comparison(kind), start + length));
    match (first, second) {
        ('(', _) => Ok((TokenKind::Open, start + 1)),
        (')', _) => Ok((TokenKind::Close, start + 1)),
        (',', _) => Ok((TokenKind::Comma, start + 1)),
        ('=', Some('=')) => Err(ExpressionFault::new(start + 1, "write `=` instead of `==`")),
        ('=', _) => comparison(Comparison::Equal, 1),
        ('!', Some('=')) => comparison(Comparison::NotEqual, 2),
        ('<', Some('>')) => Err(ExpressionFault::new(start + 1, "write `!=` instead of `<>`")),
        ('<', Some('=')) => comparison(Comparison::AtMost, 2),
        ('<', _) => comparison(Comparison::Less, 1),
        ('>', Some('=')) => comparison(Comparison::AtLeast, 2),
        ('>', _) => comparison(Comparison::Greater, 1),
        ('\'' | '"', _) => read_text(chars, start),
        ('0'..='9', _) | ('-' | '.', Some('0'..='9')) => read_number(chars, start),
        _ if is_word_start(first) => {
            let end = end_of(chars, start, is_word_part);
            let word: String = chars[start..end].iter().collect();
            Ok((TokenKind::of_word(&word), end))
        }
        ('&' | '|' | '!', _) => {
            Err(ExpressionFault::new(start + 1, "write `and`, `or` and `not` as words"))
        }
        _ => Err(ExpressionFault::new(start + 1, format!("`{first}` is not part of the language"))),
    }
}

fn read_text(chars: &[char], start: usize) -> Result<(TokenKind, usize), ExpressionFault> {
    let quote = chars[start];
    let end = end_of(chars, start + 1, |c| c != quote);
    if end == chars.len() {
        let problem = format!("the text has no closing {quote}");
        return Err(ExpressionFault::new(start + 1, problem));
    }
    Ok((TokenKind::Text(chars[start + 1..end].iter().collect()), end + 1))
}

fn read_number(chars: &[char], start: usize) -> Result<(TokenKind, usize), ExpressionFault> {
    let end = end_of(chars, start + 1, |c| c.is_ascii_digit() || c == '.');
    let end = match chars.get(end) {
        Some('e' | 'E') if chars.get(end + 1).is_some_and(char::is_ascii_digit) => {
            end_of(chars, end + 1, |c| c.is_ascii_digit())
        }
        _ => end,
    };
    let text: String = chars[start..end].iter().collect();
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((TokenKind::Number(number), end)),
        _ => Err(ExpressionFault::new(
            start + 1,
            format!("`{text}` is not a number: write it like 1250 or 0.5"),
        )),
    }
}

/// Index of the first character from `start` on that `is_part` refuses.
fn end_of(chars: &[char], start: usize, is_part: impl Fn(char) -> bool) -> usize {
    let rest = &chars[start..];
    start + rest.iter().position(|c| !is_part(*c)).unwrap_or(rest.len())
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '%' || c == '€' || c == '$' || c == '£'
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_numeric() || c == '.'
}
