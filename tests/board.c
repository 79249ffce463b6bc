// digit() on a bare Cortex-M. From the host's file `pixels` it reads images, for each it writes to
// `answers` logits, answer, bytes of stack and work, ticks.   SPDX-License-Identifier: MIT
#include "digit.h"

extern uint8_t WORK[], STACK_TOP[];  // from here to there, RAM is free
static uint8_t pixels[784];
static int32_t result[14];

// A call of the debugger, or of the emulator in its place: ARM's semihosting.
static uintptr_t call_host(uintptr_t operation, uintptr_t a, uintptr_t b, uintptr_t c)
{
    register uintptr_t r0 __asm__("r0") = operation;
    register uintptr_t *r1 __asm__("r1") = (uintptr_t[]){a, b, c};
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void reset(void)
{
    uintptr_t in = call_host(1, (uintptr_t)"pixels", 1, 6);  // open: name, "rb", length of the name
    uintptr_t out = call_host(1, (uintptr_t)"answers", 5, 7);
    volatile uint32_t *systick = (uint32_t *)0xe000e010;  // control, first value, value
    systick[1] = 0xffffff;
    systick[0] = 5;  // run, at the CPU's clock
    while (call_host(6, in, (uintptr_t)pixels, 784) == 0) {  // read: 0 bytes are missing
        uint8_t *stack, *low = WORK + DIGIT_WORK, *high = WORK + DIGIT_WORK - 1;
        __asm__ volatile("mov %0, sp" : "=r"(stack));
        for (uint8_t *free = WORK; free < stack; free++) *free = 0xa5;  // paint, which use removes
        systick[2] = 0;  // any value sets it to the first one, from which it counts down
        result[10] = digit(pixels, WORK, result);
        result[13] = 0xffffff - systick[2];
        while (*low == 0xa5) low++;
        while (*high == 0xa5) high--;
        result[11] = stack - low;
        result[12] = high + 1 - WORK;
        call_host(5, out, (uintptr_t)result, sizeof result);  // write
    }
    call_host(0x20, 0x20026, 0, 0);  // exit
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {STACK_TOP, reset};
