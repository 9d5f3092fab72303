#ifndef LINDERO_CLIBPQ_SHIM_H
#define LINDERO_CLIBPQ_SHIM_H
// Debian keeps the header in a folder of its own, which only pkg-config would add to the search path.
#if __has_include(<libpq-fe.h>)
#include <libpq-fe.h>
#else
#include <postgresql/libpq-fe.h>
#endif
#include <sys/eventfd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#endif
