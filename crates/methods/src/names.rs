//! Names in a configuration.

/// An enum whose values have names in a configuration: what is written there becomes a value, and another name an error
/// that tells the key and all names.
macro_rules! names {
    (
        $(#[$about:meta])* $name:ident, $key:literal:
        $(#[$first_doc:meta])* $first:ident = $first_text:literal,
        $($(#[$doc:meta])* $variant:ident = $text:literal,)*
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $name {
            $(#[$first_doc])* $first,
            $($(#[$doc])* $variant,)*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    Self::$first => $first_text,
                    $(Self::$variant => $text,)*
                })
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::MethodError;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                match name {
                    $first_text => Ok(Self::$first),
                    $($text => Ok(Self::$variant),)*
                    _ => Err($crate::MethodError::Value {
                        key: $key,
                        expected: concat!("\"", $first_text, "\"", $(" or \"", $text, "\""),*).to_owned(),
                        found: format!("\"{name}\""),
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::MethodError;

            fn try_from(name: String) -> Result<Self, Self::Error> {
                name.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    };
}

pub(crate) use names;
