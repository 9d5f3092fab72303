#ifndef LINDERO_CLIBPQ_SHIM_H
#define LINDERO_CLIBPQ_SHIM_H
#include <libpq-fe.h>
#include <sys/eventfd.h>
#endif
