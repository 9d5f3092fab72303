#ifndef LINDERO_CMEMORY_H
#define LINDERO_CMEMORY_H
// Swift has no word for it. It reads nothing, and so may be asked for any address.
static inline void lindero_prefetch(const void *address) { __builtin_prefetch(address); }
#endif
