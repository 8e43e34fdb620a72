import sys
import numpy as np

a = np.arange(12, dtype=np.float64).reshape(3, 4)
print(sys.version.split()[0], np.__version__)
print(a @ a.T)
print(np.linalg.solve(np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([9.0, 8.0])))
