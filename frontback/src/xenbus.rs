//! What all split drivers do with xenstore.
