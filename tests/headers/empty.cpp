// SPDX-License-Identifier: Apache-2.0
// Everything is included from the command line.
