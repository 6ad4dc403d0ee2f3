//! What an expression is made of, and the methods that there are.

use super::Value;
use crate::extract::GroupNames;
use crate::pcre::Regexp;

/// A part of an expression.
pub enum Node {
    /// Known beforehand.
    Fixed(Value<'static>),
    /// `record["key"]`
    Field(usize),
    /// `record`
    Record,
    /// `tag`
    Tag,
    /// `tag_parts`, `tag_prefix`, `tag_suffix`
    Tags(List),
    /// `time`
    Time,
    /// `Time.now`
    Now,
    /// `Time.at(...)`
    TimeAt(Box<Node>),
    /// `JSON.parse(...)`
    Json(Box<Node>),
    /// A regexp.
    Regexp(Box<Pattern>),
    /// A class, for `is_a?`.
    Class(&'static str),
    /// `from..to`, and whether without its end.
    Range(Box<Node>, Box<Node>, bool),
    /// `[...]`
    Array(Vec<Node>),
    /// `{ key => value }`
    Hash(Vec<(Node, Node)>),
    /// A text with expressions in it.
    Text(Vec<Node>),
    /// `value[...]`
    Index(Box<Node>, Vec<Node>),
    /// `value.method(...)`; with `&.` nil stays nil.
    Call(Box<Node>, Method, Vec<Node>, bool),
    /// `format(...)`
    Format(Vec<Node>),
    /// `!`
    Not(Box<Node>),
    /// `-`
    Minus(Box<Node>),
    /// `&&`
    And(Box<Node>, Box<Node>),
    /// `||`
    Or(Box<Node>, Box<Node>),
    /// Another operator.
    Binary(Operator, Box<Node>, Box<Node>),
    /// `=~`; `!~`
    Matches(Box<Node>, Box<Pattern>, bool),
    /// `condition ? a : b`
    If(Box<Node>, Box<Node>, Box<Node>),
    /// `case subject when a, b then c else d end`
    Case(Box<Node>, Vec<(Vec<Node>, Node)>, Box<Node>),
    /// `a rescue b`
    Rescue(Box<Node>, Box<Node>),
    /// `time.strftime("...")`: the format, and the number of its clock.
    Strftime(Box<Node>, String, usize, bool),
}

/// A compiled regexp.
pub struct Pattern {
    /// The program.
    pub regexp: Regexp,
    /// Its named groups.
    pub names: GroupNames,
    /// Number of its working memory.
    pub slot: usize,
}

/// Which list of the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `a`, `b`, `c`
    Parts,
    /// `a`, `a.b`, `a.b.c`
    Prefix,
    /// `a.b.c`, `b.c`, `c`
    Suffix,
}

/// An operator with two sides that are always evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Operator {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Modulo => "%",
            Operator::Equal => "==",
            Operator::Unequal => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
        }
    }
}

macro_rules! methods {
    ($($variant:ident $least:literal $most:literal $($name:literal)+;)*) => {
        /// A method that expressions know.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Method { $($variant),* }

        impl Method {
            /// By its name, with the least and most arguments it takes.
            #[must_use]
            pub fn find(name: &str) -> Option<(Method, usize, usize)> {
                match name {
                    $($($name)|+ => Some((Method::$variant, $least, $most)),)*
                    _ => None,
                }
            }

            /// Its (first) name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Method::$variant => [$($name),+][0]),* }
            }
        }

        /// The names of all methods.
        pub const NAMES: &[&str] = &[$($($name),+),*];
    };
}

methods! {
    // of everything
    ToS 0 1 "to_s" "to_str";
    ToI 0 1 "to_i" "to_int";
    ToF 0 0 "to_f";
    ToJson 0 0 "to_json";
    Inspect 0 0 "inspect";
    IsNil 0 0 "nil?";
    IsA 1 1 "is_a?" "kind_of?" "instance_of?";
    Itself 0 0 "itself" "dup" "clone" "freeze";
    ToA 0 0 "to_a" "entries";
    ToH 0 0 "to_h";
    Between 2 2 "between?";
    // of texts
    Downcase 0 0 "downcase";
    Upcase 0 0 "upcase";
    Capitalize 0 0 "capitalize";
    Swapcase 0 0 "swapcase";
    Strip 0 0 "strip";
    Lstrip 0 0 "lstrip";
    Rstrip 0 0 "rstrip";
    Chomp 0 1 "chomp";
    Chop 0 0 "chop";
    Squeeze 0 1 "squeeze";
    Chars 0 0 "chars";
    Lines 0 0 "lines";
    Partition 1 1 "partition";
    Rpartition 1 1 "rpartition";
    IsCasecmp 1 1 "casecmp?";
    Ord 0 0 "ord";
    StartsWith 1 9 "start_with?";
    EndsWith 1 9 "end_with?";
    Sub 2 2 "sub";
    Gsub 2 2 "gsub";
    Tr 2 2 "tr";
    Delete 1 1 "delete";
    DeletePrefix 1 1 "delete_prefix";
    DeleteSuffix 1 1 "delete_suffix";
    Split 0 2 "split";
    Matches 1 1 "match?";
    Match 1 1 "match";
    Scan 1 1 "scan";
    Ljust 1 2 "ljust";
    Rjust 1 2 "rjust";
    Center 1 2 "center";
    Hex 0 0 "hex";
    Bytesize 0 0 "bytesize";
    Scrub 0 1 "scrub";
    ForceEncoding 1 1 "force_encoding";
    // of texts and what holds others
    Slice 1 9 "slice";
    Count 0 1 "count";
    Length 0 0 "length" "size";
    IsEmpty 0 0 "empty?";
    Includes 1 1 "include?" "member?" "cover?";
    Reverse 0 0 "reverse";
    Index 1 1 "index";
    First 0 1 "first";
    Last 0 1 "last";
    Join 0 1 "join";
    Compact 0 0 "compact";
    Uniq 0 0 "uniq";
    Min 0 0 "min";
    Max 0 0 "max";
    Sum 0 0 "sum";
    Sort 0 0 "sort";
    Take 1 1 "take";
    Drop 1 1 "drop";
    Flatten 0 1 "flatten";
    Any 0 0 "any?";
    Merge 1 9 "merge";
    Except 1 9 "except";
    HasKey 1 1 "key?" "has_key?";
    Keys 0 0 "keys";
    Values 0 0 "values";
    Dig 1 9 "dig";
    Fetch 1 2 "fetch";
    Captures 0 0 "captures";
    // of numbers
    Abs 0 0 "abs";
    Clamp 2 2 "clamp";
    Fdiv 1 1 "fdiv";
    Round 0 1 "round";
    Floor 0 0 "floor";
    Ceil 0 0 "ceil";
    Truncate 0 0 "truncate";
    IsZero 0 0 "zero?";
    IsPositive 0 0 "positive?";
    IsNegative 0 0 "negative?";
    IsEven 0 0 "even?";
    IsOdd 0 0 "odd?";
    // of times
    Utc 0 0 "utc" "getutc" "gmtime" "getgm";
    Localtime 0 1 "localtime" "getlocal";
    Iso8601 0 1 "iso8601" "xmlschema";
    Year 0 0 "year";
    Month 0 0 "month" "mon";
    Day 0 0 "day" "mday";
    Hour 0 0 "hour";
    Second 0 0 "sec";
    Weekday 0 0 "wday";
    DayOfYear 0 0 "yday";
    Microseconds 0 0 "usec";
    Nanoseconds 0 0 "nsec";
    UtcOffset 0 0 "utc_offset" "gmt_offset";
}
