// Fibers: the threads of a block on the host back end. A fiber is a stack of its own and a saved stack pointer;
// switching costs a handful of instructions (ucontext, the portable way, makes a system call each time).
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include "../../fail.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define GETP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GETP_ASAN 1
#endif
#endif
#ifdef GETP_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#define GETP_UCONTEXT 1
#endif

namespace getp_host {

struct Fiber;
using FiberMain = void (*)(Fiber *self);  // never returns

#ifndef GETP_UCONTEXT
// Saves the callee-saved registers on the current stack, stores the stack pointer to *save and continues on `load`.
extern "C" void getp_fiber_switch(void **save, void *load);
// First code on a new stack: calls the FiberMain with the fiber, both of which make_fiber left in callee-saved registers.
extern "C" void getp_fiber_entry();

#if defined(__x86_64__)
asm(R"(
.text
.weak getp_fiber_switch
.type getp_fiber_switch, @function
getp_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size getp_fiber_switch, .-getp_fiber_switch
.weak getp_fiber_entry
.type getp_fiber_entry, @function
getp_fiber_entry:
  movq %r12, %rdi
  call *%r13
  ud2
.size getp_fiber_entry, .-getp_fiber_entry
)");
#else
asm(R"(
.text
.weak getp_fiber_switch
.type getp_fiber_switch, %function
getp_fiber_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size getp_fiber_switch, .-getp_fiber_switch
.weak getp_fiber_entry
.type getp_fiber_entry, %function
getp_fiber_entry:
  mov x0, x19
  blr x20
  brk #1
.size getp_fiber_entry, .-getp_fiber_entry
)");
#endif
#endif  // GETP_UCONTEXT

// A stack and where to go on. `stack` is null for the fiber that stands for the worker thread itself.
struct Fiber {
#ifdef GETP_UCONTEXT
  ucontext_t context;
  FiberMain main = nullptr;
#else
  void *stack_pointer = nullptr;
#endif
  char *stack = nullptr;
  size_t stack_bytes = 0;
  int lane = -1;                      // the thread of the block it runs now
  void *owner = nullptr;              // the BlockRunner
  const void *asan_bottom = nullptr;  // of the worker thread's own stack, which only ASan needs to know
  size_t asan_bytes = 0;
  void *asan_frames = nullptr;  // where ASan keeps this fiber's frames while it does not run
};

#ifdef GETP_UCONTEXT
// makecontext passes ints only, so the pointer comes in two halves.
inline void ucontext_entry(unsigned high, unsigned low) {
  Fiber *const self = (Fiber *)(uintptr_t)(((uint64_t)high << 32) | low);
  self->main(self);
}
#endif

#ifdef GETP_ASAN
// Told by the fiber that is left, so that the one entered can announce the switch as complete.
inline thread_local Fiber *asan_left = nullptr;
inline void asan_entered(Fiber &self) {
  const void *bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(self.asan_frames, &bottom, &bytes);
  if (asan_left && !asan_left->stack) {
    asan_left->asan_bottom = bottom;
    asan_left->asan_bytes = bytes;
  }
}
#endif

// Leaves `from` where it stands and goes on with `to`. `for_good`: nothing will go on with `from`.
inline void switch_fiber(Fiber &from, Fiber &to, bool for_good = false) {
  (void)for_good;
#ifdef GETP_ASAN
  asan_left = &from;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.asan_frames, to.stack ? to.stack : to.asan_bottom,
                                 to.stack ? to.stack_bytes : to.asan_bytes);
#endif
#ifdef GETP_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  getp_fiber_switch(&from.stack_pointer, to.stack_pointer);
#endif
#ifdef GETP_ASAN
  asan_entered(from);
#endif
}

constexpr size_t kPage = 4096, kStackBytes = 256 * 1024;

// Prepares `fiber` to start main(&fiber) when first switched to. Allocates its stack once, with a page below it
// that faults on overflow. Stacks begin at different places of a page, else all of them would meet in the same lines of
// the CPU's cache: `number` tells them apart.
inline void make_fiber(Fiber &fiber, size_t number, FiberMain main) {
  if (!fiber.stack) {
    void *memory =
        mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0)
      getp_hip::fail_program("host back end: no memory for the stack of a simulated thread");
    fiber.stack = (char *)memory + kPage;
    fiber.stack_bytes = kStackBytes - number * 320 % kPage;
  }
#ifdef GETP_ASAN
  fiber.asan_frames = nullptr;
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);  // frames of an abandoned run may have left poison
#endif
#ifdef GETP_UCONTEXT
  fiber.main = main;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  fiber.context.uc_link = nullptr;
  const uintptr_t self = (uintptr_t)&fiber;
  makecontext(&fiber.context, (void (*)()) & ucontext_entry, 2, (unsigned)((uint64_t)self >> 32), (unsigned)self);
#else
  void **top = (void **)(fiber.stack + fiber.stack_bytes);
#if defined(__x86_64__)
  // What getp_fiber_switch pops: r15 r14 r13 r12 rbx rbp, then the return address. Two words stay above it, so that the
  // call in getp_fiber_entry finds the stack 16-byte aligned.
  top -= 9;
  top[0] = top[1] = nullptr;
  top[2] = (void *)main;
  top[3] = &fiber;
  top[4] = top[5] = nullptr;
  top[6] = (void *)&getp_fiber_entry;
  top[7] = top[8] = nullptr;
#else
  top -= 20;
  for (int i = 0; i < 20; i++) top[i] = nullptr;
  top[0] = &fiber;                      // x19
  top[1] = (void *)main;                // x20
  top[11] = (void *)&getp_fiber_entry;  // x30
#endif
  fiber.stack_pointer = top;
#endif
}

inline void free_fiber(Fiber &fiber) {
  if (fiber.stack) munmap(fiber.stack - kPage, kStackBytes + kPage);
  fiber.stack = nullptr;
}

}  // namespace getp_host
