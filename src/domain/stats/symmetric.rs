//! Dense linear algebra for small symmetric matrices: eigenvectors, Cholesky factor, inverse.

use ndarray::Array2;

/// Upper limit of Jacobi sweeps; in practice ten are enough.
const MAX_SWEEPS: usize = 60;

/// Eigenvalues in descending order, and their unit eigenvectors as rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Eigendecomposition {
    pub values: Vec<f64>,
    pub vectors: Array2<f64>,
}

/// Eigendecomposition by the cyclic Jacobi method (Golub and Van Loan, section 8.5).
///
/// Plane rotations reduce the off-diagonal entries to rounding error. Accurate for every
/// symmetric matrix, and fast enough for some hundreds of columns. The sign of each vector
/// makes its largest component positive (of equal components the first).
pub(crate) fn eigendecomposition(matrix: &Array2<f64>) -> Eigendecomposition {
    let n = matrix.nrows();
    let mut a = matrix.clone();
    let mut vectors = Array2::<f64>::eye(n);
    let scale: f64 = a.iter().map(|x| x * x).sum();
    for _ in 0..MAX_SWEEPS {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|at| a[at] * a[at]).sum();
        if off <= scale * f64::EPSILON * f64::EPSILON {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[[*j, *j]].total_cmp(&a[[*i, *i]]).then(i.cmp(j)));
    let values = order.iter().map(|i| a[[*i, *i]]).collect();
    let mut vectors = vectors.select(ndarray::Axis(0), &order);
    for mut vector in vectors.rows_mut() {
        let largest =
            vector.iter().fold(0.0_f64, |most, x| if x.abs() > most.abs() { *x } else { most });
        if largest < 0.0 {
            vector.mapv_inplace(|x| -x);
        }
    }
    Eigendecomposition { values, vectors }
}

/// Applies the rotation in the plane of `p` and `q` that makes a[p, q] zero.
fn rotate(a: &mut Array2<f64>, vectors: &mut Array2<f64>, p: usize, q: usize) {
    let off = a[[p, q]];
    if off == 0.0 {
        return;
    }
    let theta = (a[[q, q]] - a[[p, p]]) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let rotation = PlaneRotation { p, q, cosine, sine: tangent * cosine };
    // The matrix becomes R A Rᵀ: its rows are rotated, then its columns as rows of the transpose.
    rotation.rotate_rows(a);
    a.swap_axes(0, 1);
    rotation.rotate_rows(a);
    a.swap_axes(0, 1);
    (a[[p, q]], a[[q, p]]) = (0.0, 0.0);
    rotation.rotate_rows(vectors);
}

/// Givens rotation in the plane of the axes `p` and `q`.
struct PlaneRotation {
    p: usize,
    q: usize,
    cosine: f64,
    sine: f64,
}

impl PlaneRotation {
    fn rotate_rows(&self, matrix: &mut Array2<f64>) {
        let Self { p, q, cosine, sine } = *self;
        for column in 0..matrix.ncols() {
            let (x, y) = (matrix[[p, column]], matrix[[q, column]]);
            matrix[[p, column]] = cosine * x - sine * y;
            matrix[[q, column]] = sine * x + cosine * y;
        }
    }
}

/// Cholesky factor: the lower triangular L with L Lᵀ = `matrix`; `None` unless the matrix is
/// positive definite.
pub(crate) fn cholesky_factor(matrix: &Array2<f64>) -> Option<Array2<f64>> {
    let n = matrix.nrows();
    let mut factor = Array2::<f64>::zeros((n, n));
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|m| factor[[i, m]] * factor[[j, m]]).sum();
            let rest = matrix[[i, j]] - known;
            factor[[i, j]] = if i == j { rest.sqrt() } else { rest / factor[[j, j]] };
        }
        // A comparison with NaN is not `Greater` either, so NaN is refused here.
        if factor[[i, i]].partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
            return None;
        }
    }
    Some(factor)
}

/// Inverse of a lower triangular matrix with a positive diagonal.
pub(crate) fn invert_lower_triangular(factor: &Array2<f64>) -> Array2<f64> {
    let n = factor.nrows();
    let mut inverse = Array2::<f64>::zeros((n, n));
    for column in 0..n {
        inverse[[column, column]] = 1.0 / factor[[column, column]];
        for i in column + 1..n {
            let sum: f64 = (column..i).map(|m| factor[[i, m]] * inverse[[m, column]]).sum();
            inverse[[i, column]] = -sum / factor[[i, i]];
        }
    }
    inverse
}

/// Inverse of a positive definite matrix; `None` for any other.
pub(crate) fn invert_positive_definite(matrix: &Array2<f64>) -> Option<Array2<f64>> {
    let inverse = invert_lower_triangular(&cholesky_factor(matrix)?);
    Some(inverse.t().dot(&inverse))
}
