#ifndef LINDERO_CTHREAD_H
#define LINDERO_CTHREAD_H
// sched_setattr(2): glibc has it since 2.41, and `syscall` takes what Swift can't give.
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct lindero_schedule {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

// Schedules the calling thread as the first thread of the process is, where that is allowed, and as before where it isn't; with
// slices of so many nanoseconds (Linux 6.12; earlier ones take no notice).
static inline int lindero_share_schedule(uint64_t slice_ns) {
    const int from[] = {getpid(), 0};
    for (int i = 0; i < 2; i++) {
        struct lindero_schedule wanted;
        if (syscall(SYS_sched_getattr, from[i], &wanted, sizeof wanted, 0)) return -1;
        wanted.flags = 0;
        if (wanted.policy == 0) wanted.runtime = slice_ns;
        if (!syscall(SYS_sched_setattr, 0, &wanted, 0)) return 0;
    }
    return -1;
}
#endif
