//! 61–79: what native code does that has taken a worker or a compiler over.
