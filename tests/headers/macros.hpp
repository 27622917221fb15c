// SPDX-License-Identifier: Apache-2.0
// Names that widely used headers define as macros. After the standard headers and those of other libraries, some of which
// do not compile under them.
// clang-format off

// <complex.h> of C, <sys/sysmacros.h>, <termios.h>, <linux/...>, gnu++20
#undef I
#define I (__extension__ 1.0iF)
#undef complex
#define complex _Complex
#undef major
#define major(dev) gnu_dev_major(dev)
#undef minor
#define minor(dev) gnu_dev_minor(dev)
#undef unix
#define unix 1
#undef linux
#define linux 1
#undef i386
#define i386 1
#undef arm
#define arm 1
#undef sun
#define sun 1
#undef B0
#define B0 0000000
#undef ECHO
#define ECHO 0000010
#undef PAGE_SIZE
#define PAGE_SIZE 4096
#undef OVERFLOW
#define OVERFLOW 3
#undef DOMAIN
#define DOMAIN 1
#undef BIT
#define BIT(n) (1 << (n))

// <ctype.h> of newlib and others
#define _A 0100
#define _B 0200
#define _C 040
#define _D 04
#define _L 02
#define _N 04
#define _P 020
#define _S 010
#define _T 0400
#define _U 01
#define _X 0200

// <windows.h>
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define small char
#define hyper __int64
#define near
#define far
#define NEAR
#define FAR
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define ERROR 0
#define NO_ERROR 0
#define STRICT 1
#define IGNORE 0
#define DELETE 0x00010000
#define RELATIVE 2
#define ABSOLUTE 1
#define DIFFERENCE 11
#define TRANSPARENT 1
#define INFINITE 0xffffffff
#undef TRUE
#define TRUE 1
#undef FALSE
#define FALSE 0
#define interface struct
#define pascal
#define cdecl

// Xlib
#define None 0L
#define Bool int
#define Status int
#define True 1
#define False 0
#define Success 0
#define Always 2

// Qt, without QT_NO_KEYWORDS
#define slots
#define signals public
#define emit
#define foreach(variable, container) for (variable : container)
#define forever for (;;)
