/*
 * Two requests to valgrind's callgrind, as functions: begin to count anew, write down what was counted.
 * Outside of valgrind they do nothing.
 *
 *   cc -O2 -shared -fPIC -o callgrind.so callgrind.c       (apt-get install valgrind)
 */
#include <valgrind/callgrind.h>

void count(void) { CALLGRIND_ZERO_STATS; }
void write_down(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
