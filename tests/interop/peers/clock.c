/* A wall clock that a test moves, for the one program that this is preloaded into (LD_PRELOAD).
 *
 * What is added to the time of day, in seconds, stands in the first eight bytes of the file that QTLS_TEST_CLOCK names.
 * Clocks that nobody can set (CLOCK_MONOTONIC, CLOCK_BOOTTIME) go on as they do when the machine's clock is set. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void find(void)
{
    const char *path = getenv("QTLS_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        abort();
    shift = map;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *time)
{
    int outcome = (int)syscall(SYS_clock_gettime, id, time);
    if (outcome == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI))
        time->tv_sec += *shift;
    return outcome;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    int outcome = (int)syscall(SYS_gettimeofday, time, zone);
    if (outcome == 0)
        time->tv_sec += *shift;
    return outcome;
}

time_t time(time_t *seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds)
        *seconds = now.tv_sec;
    return now.tv_sec;
}
