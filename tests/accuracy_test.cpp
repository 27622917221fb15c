// SPDX-License-Identifier: Apache-2.0
// The bounds that the comments of math.hpp, log.hpp and softmax.hpp state, on a sample of the points of accuracy/table.cpp.
#include "accuracy/functions.hpp"
#include "accuracy/rows.hpp"
#include "catch.hpp"

namespace {

template <class T, class A>
void check(accuracy::function<T> const& f, accuracy::worst const& w) {
    INFO(f.name << ", " << A::name() << ": " << w.relative << " relative, " << w.ulp << " ulp at " << w.at);
    CHECK(w.points > 10000);
    if (f.relative > 0) CHECK(w.relative <= f.relative);
    if (f.ulp > 0) CHECK(w.ulp <= f.ulp);
}
template <class A>
void check_unit() {
    for (auto const& f : accuracy::functions<float, A>()) check<float, A>(f, accuracy::measure_float(f, 7, 30011));
    batches::random r(2);
    for (auto const& f : accuracy::functions<double, A>()) check<double, A>(f, accuracy::measure_double(f, 60000, r));
}

}  // namespace

TEST_CASE("elementary functions keep the bounds of their comments", "[simd][accuracy]") {
    SECTION("the widest unit") { check_unit<trm::simd::compiled_arch>(); }
    SECTION("one lane") { check_unit<trm::simd::scalar>(); }
}

TEST_CASE("logsumexp keeps its bound", "[logits][accuracy]") {
    CHECK(accuracy::worst_logsumexp<trm::simd::default_arch>(12) < 2e-6);
}
