//! Whole meshes of real processes, seen from outside: HTTP, DNS and plain clients.
