//! What local proxies work by: one assembler each, fed from views and leaves.
