// SPDX-License-Identifier: Apache-2.0
double first();
double second();

int main() { return first() == second() ? 0 : 1; }
