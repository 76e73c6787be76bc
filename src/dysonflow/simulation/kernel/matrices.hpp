// Dense linear algebra on matrices whose every element is a vector of lanes.
//
// With a whole vector per element no layout is better than another, so a matrix is a pointer and two
// strides, and its transpose costs nothing. Products go through register tiles; each output element adds
// its terms in order of the inner index whatever the tile, so tile sizes do not show in the numbers.
#pragma once

#include "lanes.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

#if defined(__AVX512F__) || defined(__aarch64__) || defined(DYSONFLOW_GPU)
constexpr int kTileRows = 4, kTileColumns = 4;  // 32 vector registers; of a GPU, more
#else
constexpr int kTileRows = 2, kTileColumns = 4;  // 16 vector registers
#endif

template <class V>
struct Matrix {
    Elements<V> data;
    std::ptrdiff_t row_stride, column_stride;

    DYSONFLOW_INLINE V& operator()(int i, int j) const {
        return data[i * row_stride + j * column_stride];
    }
    DYSONFLOW_INLINE Matrix transposed() const { return {data, column_stride, row_stride}; }
    DYSONFLOW_INLINE Matrix rows_from(int i) const {
        return {data + i * row_stride, row_stride, column_stride};
    }
};

struct Range { int begin, end; };

// out(i, j) = end(i, j, begin(i, j) + sum_k a(i, k) b(k, j)) for one tile; `end` stores.
template <int rows, int columns, class V, class Begin, class End>
DYSONFLOW_INLINE void tile(int i0, int j0, Range inner, const Matrix<V>& a, const Matrix<V>& b,
                           const Begin& begin, const End& end) {
    V sum[rows][columns];
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i)
        DYSONFLOW_UNROLL
        for (int j = 0; j < columns; ++j) sum[i][j] = begin(i0 + i, j0 + j);
    for (int k = inner.begin; k < inner.end; ++k) {
        V x[rows];
        DYSONFLOW_UNROLL
        for (int i = 0; i < rows; ++i) x[i] = a(i0 + i, k);
        DYSONFLOW_UNROLL
        for (int j = 0; j < columns; ++j) {
            const V y = b(k, j0 + j);
            DYSONFLOW_UNROLL
            for (int i = 0; i < rows; ++i) sum[i][j] = mad(x[i], y, sum[i][j]);
        }
    }
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i)
        DYSONFLOW_UNROLL
        for (int j = 0; j < columns; ++j) end(i0 + i, j0 + j, sum[i][j]);
}

template <int rows, class V, class Columns, class Inner, class Begin, class End>
DYSONFLOW_INLINE void tile_row(int i, const Matrix<V>& a, const Matrix<V>& b, const Columns& columns,
                               const Inner& inner, const Begin& begin, const End& end) {
    const int n = columns(i + rows);
    int j = 0;
    for (; j + kTileColumns <= n; j += kTileColumns)
        tile<rows, kTileColumns>(i, j, inner(i, j, i + rows, j + kTileColumns), a, b, begin, end);
    if (kTileColumns > 2 && j + 2 <= n) {
        tile<rows, 2>(i, j, inner(i, j, i + rows, j + 2), a, b, begin, end);
        j += 2;
    }
    if (j < n) tile<rows, 1>(i, j, inner(i, j, i + rows, j + 1), a, b, begin, end);
}

// The product above over m rows; `columns(i)` says how many columns the rows before row i need, `inner`
// which terms of the sum are not zero in a tile.
template <class V, class Columns, class Inner, class Begin, class End>
DYSONFLOW_INLINE void product(int m, const Matrix<V>& a, const Matrix<V>& b, const Columns& columns,
                              const Inner& inner, const Begin& begin, const End& end) {
    int i = 0;
    for (; i + kTileRows <= m; i += kTileRows)
        tile_row<kTileRows>(i, a, b, columns, inner, begin, end);
    if (kTileRows > 2 && i + 2 <= m) {
        tile_row<2>(i, a, b, columns, inner, begin, end);
        i += 2;
    }
    if (i < m) tile_row<1>(i, a, b, columns, inner, begin, end);
}

// (m x n) product with an inner dimension `depth`.
template <class V, class Begin, class End>
DYSONFLOW_INLINE void full_product(int m, int n, int depth, const Matrix<V>& a, const Matrix<V>& b,
                                   const Begin& begin, const End& end) {
    product(m, a, b, [=](int) { return n; }, [=](int, int, int, int) { return Range{0, depth}; },
            begin, end);
}

// The lower triangle of a symmetric (n x n) product; parts of the upper one are computed too.
template <class V, class Begin, class End>
DYSONFLOW_INLINE void symmetric_product(int n, int depth, const Matrix<V>& a, const Matrix<V>& b,
                                        const Begin& begin, const End& end) {
    product(n, a, b, [=](int i) { return i < n ? i : n; },
            [=](int, int, int, int) { return Range{0, depth}; }, begin, end);
}

template <class V>
DYSONFLOW_INLINE void mirror_lower(int n, const Matrix<V>& a) {
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < i; ++j) a(j, i) = a(i, j);
}

// `rows` consecutive elements of column j of the factor, below its diagonal.
template <int rows, class V>
DYSONFLOW_INLINE void factor_rows(int i0, int j, const Matrix<V>& a, const V& inverse_pivot) {
    V sum[rows];
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i) sum[i] = a(i0 + i, j);
    for (int k = 0; k < j; ++k) {
        const V y = a(k, j);
        DYSONFLOW_UNROLL
        for (int i = 0; i < rows; ++i) sum[i] = negative_mad(a(i0 + i, k), y, sum[i]);
    }
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i) {
        a(j, i0 + i) = sum[i];
        a(i0 + i, j) = sum[i] * inverse_pivot;
    }
}

// Factors the symmetric matrix in the lower triangle of a into L D L^T, L lower triangular with ones on its
// diagonal. Leaves L below the diagonal of a, the pivots D on it and (L D)^T above it, and stores the inverse
// pivots. Without the roots of Cholesky's factor a column waits for the one before it half as long. Returns the
// smallest pivot: positive where a is positive definite, and there only; NaN stays NaN.
template <class V>
DYSONFLOW_INLINE V factor(int n, const Matrix<V>& a, Elements<V> inverse_pivots) {
    V smallest = a(0, 0);
    for (int j = 0; j < n; ++j) {
        V pivot = a(j, j);
        for (int k = 0; k < j; ++k) pivot = negative_mad(a(j, k), a(k, j), pivot);
        const V inverse = broadcast<V>(1) / pivot;
        smallest = smaller(smallest, pivot);
        a(j, j) = pivot;
        inverse_pivots[j] = inverse;
        int i = j + 1;
        for (; i + 8 <= n; i += 8) factor_rows<8>(i, j, a, inverse);
        if (i + 4 <= n) { factor_rows<4>(i, j, a, inverse); i += 4; }
        if (i + 2 <= n) { factor_rows<2>(i, j, a, inverse); i += 2; }
        if (i < n) factor_rows<1>(i, j, a, inverse);
    }
    return smallest;
}

// `width` consecutive elements of row i of the solution below.
template <int width, class V>
DYSONFLOW_INLINE void substitute_columns(int i, int j0, int k0, const Matrix<V>& l, const V& scale,
                                         const Matrix<V>& t) {
    V sum[width];
    DYSONFLOW_UNROLL
    for (int j = 0; j < width; ++j) sum[j] = t(i, j0 + j) * scale;
    for (int k = k0; k < i; ++k) {
        const V x = l(i, k);
        DYSONFLOW_UNROLL
        for (int j = 0; j < width; ++j) sum[j] = negative_mad(x, t(k, j0 + j), sum[j]);
    }
    DYSONFLOW_UNROLL
    for (int j = 0; j < width; ++j) t(i, j0 + j) = sum[j];
}

// Solves l y = diag(scales) t in place of t. l (n x n) is lower triangular, with ones on its diagonal that are
// not read. t is lower triangular where `triangular`, with zeros stored above its diagonal; else it has
// `columns` columns.
template <class V>
DYSONFLOW_NOINLINE void substitute(int n, int columns, bool triangular, const Matrix<V>& l,
                                 Elements<V> scales, const Matrix<V>& t) {
    for (int i = 0; i < n; ++i) {
        const int width = triangular ? i + 1 : columns;
        int j = 0;
        for (; j + 8 <= width; j += 8)
            substitute_columns<8>(i, j, triangular ? j : 0, l, scales[i], t);
        if (j + 4 <= width) {
            substitute_columns<4>(i, j, triangular ? j : 0, l, scales[i], t);
            j += 4;
        }
        if (j + 2 <= width) {
            substitute_columns<2>(i, j, triangular ? j : 0, l, scales[i], t);
            j += 2;
        }
        if (j < width) substitute_columns<1>(i, j, triangular ? j : 0, l, scales[i], t);
    }
}

// The same for a lower triangular t of constant size, stored row by row without zeros: writes the columns j,
// j + 1, .. of y, two at a time. They stay in registers, and no row waits for the stores of the one before.
template <int n, int j, class V>
DYSONFLOW_INLINE void substitute_packed(const Matrix<V>& l, Elements<V> scales, Elements<V> t,
                                        const Matrix<V>& y) {
    constexpr int rows = n - j, width = rows < 2 ? rows : 2;
    V sum[width][rows];
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i)
        DYSONFLOW_UNROLL
        for (int c = 0; c < width; ++c)
            sum[c][i] = c > i ? V{} : t[(j + i) * (j + i + 1) / 2 + j + c] * scales[j + i];
    DYSONFLOW_UNROLL
    for (int k = 0; k < rows; ++k) {
        DYSONFLOW_UNROLL
        for (int i = k + 1; i < rows; ++i) {
            const V x = l(j + i, j + k);
            DYSONFLOW_UNROLL
            for (int c = 0; c < width; ++c) sum[c][i] = negative_mad(x, sum[c][k], sum[c][i]);
        }
    }
    DYSONFLOW_UNROLL
    for (int i = 0; i < rows; ++i)
        DYSONFLOW_UNROLL
        for (int c = 0; c < width; ++c) y(j + i, j + c) = sum[c][i];
    if constexpr (j + 2 < n) substitute_packed<n, j + 2>(l, scales, t, y);
}

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow
