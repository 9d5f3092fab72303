/* A network between two servers of one machine: takes connections at one unix socket, makes them to another, and passes on what
 * comes from either end a fixed time later. It holds what is on its way in memory, and has no limit of width.
 *
 *   delay HERE THERE MICROSECONDS
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef struct Packet {
  struct Packet *next;
  int64_t due;
  ssize_t length;
  char bytes[];
} Packet;

typedef struct { int from, to; } Way;

static int64_t delay;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int write_all(int socket, const char *bytes, ssize_t length) {
  for (ssize_t done = 0, count; done < length; done += count)
    if ((count = write(socket, bytes + done, length - done)) <= 0) return 0;
  return 1;
}

/* What can be read now; NULL at the end. */
static Packet *take(int socket) {
  static _Thread_local char buffer[1 << 16];
  ssize_t length = read(socket, buffer, sizeof buffer);
  if (length <= 0) return NULL;
  Packet *packet = malloc(sizeof *packet + length);
  *packet = (Packet){.due = now() + delay, .length = length};
  memcpy(packet->bytes, buffer, length);
  return packet;
}

/* Passes on until either end is gone, and what is on its way then. */
static void *carry(void *argument) {
  Way way = *(Way *)argument;
  free(argument);
  Packet *first = NULL, **last = &first;
  for (int isOver = 0; first || !isOver;) {
    int64_t wait = first ? first->due - now() : 0;
    if (first && wait <= 0) {
      Packet *packet = first;
      if (!(first = packet->next)) last = &first;
      isOver |= !write_all(way.to, packet->bytes, packet->length);
      free(packet);
      continue;
    }
    struct timespec limit = {wait / 1000000000, wait % 1000000000};
    struct pollfd wanted = {isOver ? -1 : way.from, POLLIN, 0};
    if (ppoll(&wanted, 1, first ? &limit : NULL, NULL) <= 0) continue;
    if ((*last = take(way.from))) last = &(*last)->next;
    else isOver = 1;
  }
  /* The other direction may have something on its way: each closes nothing but its own. */
  shutdown(way.to, SHUT_WR);
  shutdown(way.from, SHUT_RD);
  return NULL;
}

static int open_socket(const char *path, int isOurs) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int result = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (isOurs) unlink(path);
  int (*how)(int, const struct sockaddr *, socklen_t) = isOurs ? bind : connect;
  if (how(result, (struct sockaddr *)&address, sizeof address) == 0 && (!isOurs || listen(result, 50) == 0)) return result;
  close(result);
  return -1;
}

static void begin(int from, int to) {
  pthread_t thread;
  Way *way = malloc(sizeof *way);
  *way = (Way){from, to};
  if (pthread_create(&thread, NULL, carry, way)) abort();
  pthread_detach(thread);
}

int main(int count, char **arguments) {
  if (count != 4) return fputs("usage: delay HERE THERE MICROSECONDS\n", stderr), 2;
  delay = atoll(arguments[3]) * 1000;
  signal(SIGPIPE, SIG_IGN);
  umask(0); /* for the server, too, which is another user */
  int listening = open_socket(arguments[1], 1);
  if (listening < 0) return perror("delay"), 1;
  for (;;) {
    int near = accept(listening, NULL, NULL);
    int far = near < 0 ? -1 : open_socket(arguments[2], 0);
    if (far < 0) {
      close(near);
      continue;
    }
    begin(near, far);
    begin(far, near);
  }
}
