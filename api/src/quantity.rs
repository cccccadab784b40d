//! `resource.Quantity`: exact decimal and binary SI numbers.
