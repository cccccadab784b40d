//! Values written as JSON in code.

/// The value that is written: JSON, in which an expression stands for what serde makes of it. Names are literals or
/// expressions.
///
/// # Panics
/// When an expression cannot be said in JSON: a map with keys that are no strings.
#[doc(hidden)]
#[macro_export]
macro_rules! __json {
    (@list [$($done:expr,)*]) => {
        ::std::vec![$($done,)*]
    };
    (@list [$($done:expr,)*] null $(, $($rest:tt)*)?) => {
        $crate::__json!(@list [$($done,)* $crate::json::Value::Null,] $($($rest)*)?)
    };
    (@list [$($done:expr,)*] [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__json!(@list [$($done,)* $crate::__json!([$($inner)*]),] $($($rest)*)?)
    };
    (@list [$($done:expr,)*] {$($inner:tt)*} $(, $($rest:tt)*)?) => {
        $crate::__json!(@list [$($done,)* $crate::__json!({$($inner)*}),] $($($rest)*)?)
    };
    (@list [$($done:expr,)*] $value:expr $(, $($rest:tt)*)?) => {
        $crate::__json!(@list [$($done,)* $crate::json::made_of(&$value),] $($($rest)*)?)
    };
    (@map $map:ident;) => {};
    (@map $map:ident; $name:tt: null $(, $($rest:tt)*)?) => {
        $map.insert($name, $crate::json::Value::Null);
        $crate::__json!(@map $map; $($($rest)*)?);
    };
    (@map $map:ident; $name:tt: [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $map.insert($name, $crate::__json!([$($inner)*]));
        $crate::__json!(@map $map; $($($rest)*)?);
    };
    (@map $map:ident; $name:tt: {$($inner:tt)*} $(, $($rest:tt)*)?) => {
        $map.insert($name, $crate::__json!({$($inner)*}));
        $crate::__json!(@map $map; $($($rest)*)?);
    };
    (@map $map:ident; $name:tt: $value:expr $(, $($rest:tt)*)?) => {
        $map.insert($name, $crate::json::made_of(&$value));
        $crate::__json!(@map $map; $($($rest)*)?);
    };
    (@map $map:ident; $($rest:tt)+) => {
        $crate::__json!(@name $map () $($rest)+);
    };
    (@name $map:ident ($($name:tt)+) : null $(, $($rest:tt)*)?) => {
        $map.insert($($name)+, $crate::json::Value::Null);
        $crate::__json!(@map $map; $($($rest)*)?);
    };
    (@name $map:ident ($($name:tt)+) : [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $map.insert($($name)+, $crate::__json!([$($inner)*]));
        $crate::__json!(@map $map; $($($rest)*)?);
    };
    (@name $map:ident ($($name:tt)+) : {$($inner:tt)*} $(, $($rest:tt)*)?) => {
        $map.insert($($name)+, $crate::__json!({$($inner)*}));
        $crate::__json!(@map $map; $($($rest)*)?);
    };
    (@name $map:ident ($($name:tt)+) : $value:expr $(, $($rest:tt)*)?) => {
        $map.insert($($name)+, $crate::json::made_of(&$value));
        $crate::__json!(@map $map; $($($rest)*)?);
    };
    (@name $map:ident ($($name:tt)*) $next:tt $($rest:tt)*) => {
        $crate::__json!(@name $map ($($name)* $next) $($rest)*);
    };
    (null) => {
        $crate::json::Value::Null
    };
    ([]) => {
        $crate::json::Value::Array(::std::vec::Vec::new())
    };
    ([$($inner:tt)+]) => {
        $crate::json::Value::Array($crate::__json!(@list [] $($inner)+))
    };
    ({}) => {
        $crate::json::Value::Object($crate::json::Map::new())
    };
    ({$($inner:tt)+}) => {{
        let mut map = $crate::json::Map::new();
        $crate::__json!(@map map; $($inner)+);
        $crate::json::Value::Object(map)
    }};
    ($value:expr) => {
        $crate::json::made_of(&$value)
    };
}
